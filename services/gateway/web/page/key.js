/** The dialog for the API key. The key stays in this tab, and goes nowhere but to the gateway. */

import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { getKey, setKey } from "./api.js";
import { Button, Field, describedBy } from "./ui.js";

/** Opens the dialog, and says whether there is a key. */
export function KeyButton({ onClick }) {
  return html`<${Button} kind="quiet" onClick=${onClick}>${getKey() ? "Key" : "Set a key"}<//>`;
}

/**
 * The dialog. Escape closes it.
 * @param {{isOpen: boolean, refusal: ?{message: string}, onClose: () => void, onKey: () => void}} props
 */
export function KeyDialog({ isOpen, refusal, onClose, onKey }) {
  const dialog = useRef(null);
  const [text, setText] = useState("");
  useEffect(() => {
    if (isOpen && !dialog.current.open) {
      setText("");
      dialog.current.showModal();
    }
    if (!isOpen && dialog.current.open) dialog.current.close();
  }, [isOpen]);
  const error = refusal && getKey() ? refusal.message : null;
  return html`<dialog ref=${dialog} aria-labelledby="key-title" onClose=${onClose}>
    <form onSubmit=${keep}>
      <h2 id="key-title">API key</h2>
      <${Field} id="key" label="Key" error=${error} hint="Kept in this tab alone, and forgotten when you close it.">
        <input id="key" type="password" autocomplete="off" spellcheck="false" value=${text}
          ...${describedBy("key", { hint: true, error })} onInput=${(event) => setText(event.target.value)} />
      <//>
      <div class="dialog-buttons">
        ${getKey() && html`<${Button} kind="quiet" onClick=${forget}>Forget the key<//>`}
        <${Button} onClick=${onClose}>Close<//>
        <${Button} kind="primary" type="submit" disabled=${!text.trim()}>Use this key<//>
      </div>
    </form>
  </dialog>`;

  function keep(event) {
    event.preventDefault();
    if (!text.trim()) return;
    setKey(text.trim());
    onKey();
  }

  function forget() {
    setKey(null);
    onKey();
  }
}
