/** The choice of light, dark, or what the system says. */

import { html, useState } from "./vendor/htm/standalone.module.js";

const ITEM = "gsi-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const SIGNS = {
  system: "M10 2.5a7.5 7.5 0 1 0 0 15zM10 2.5v15a7.5 7.5 0 0 0 0-15z",
  light: "M10 6.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6zM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M16 4l-1.4 1.4M5.4 14.6 4 16",
  dark: "M16.8 12.2A7.2 7.2 0 0 1 7.8 3.2a7.2 7.2 0 1 0 9 9z",
};

/** A button that goes round the three. */
export function ThemeSwitch() {
  const [theme, setTheme] = useState(localStorage.getItem(ITEM) ?? "system");
  return html`<button type="button" class="icon-button" title=${`Theme: ${theme}`} aria-label=${`Theme: ${theme}. Change to ${NEXT[theme]}`} onClick=${change}>
    <svg viewBox="0 0 20 20" aria-hidden="true" class=${`sign sign-${theme}`}><path d=${SIGNS[theme]} /></svg>
  </button>`;

  function change() {
    const next = NEXT[theme] ?? "system";
    if (next === "system") {
      localStorage.removeItem(ITEM);
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem(ITEM, next);
      document.documentElement.dataset.theme = next;
    }
    setTheme(next);
  }
}
