/** A dialog that asks before something is done. */

import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { ApiError } from "./api.js";
import { Button, ErrorBox } from "./ui.js";

/**
 * Asks whether to do something, and does it. Escape and "No" close the dialog; an error stays in it.
 * @param {{question: string, children: any, action: string, kind?: string, onConfirm: () => Promise<void>, onClose: () => void}} props
 */
export function Confirmation({ question, children, action, kind = "primary", onConfirm, onClose }) {
  const dialog = useRef(null);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="question" onClose=${onClose}>
    <form method="dialog" onSubmit=${confirm}>
      <h2 id="question">${question}</h2>
      <p class="soft">${children}</p>
      <${ErrorBox} error=${error} />
      <div class="dialog-buttons">
        <${Button} onClick=${() => dialog.current.close()}>No<//>
        <${Button} kind=${kind} type="submit" disabled=${isBusy}>${action}<//>
      </div>
    </form>
  </dialog>`;

  async function confirm(event) {
    event.preventDefault();
    setBusy(true);
    try {
      await onConfirm();
      dialog.current?.close();
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
      setBusy(false);
    }
  }
}
