/** KaTeX, loaded when the first formula is set. */

import { addStyles } from "./ui.js";

let loading = null;

/** Returns the library, with its style sheet on its way. */
export function loadKatex() {
  addStyles("vendor/katex/katex.min.css");
  loading ??= import("./vendor/katex/katex.min.js").then(() => self.katex);
  return loading;
}

/**
 * Sets a formula into an element, as text if it is no TeX. Nothing in it becomes a link, an image or a style of the page.
 * @param {object} katex what `loadKatex` returns
 */
export function setFormula(katex, element, tex, { isDisplayed = false } = {}) {
  katex.render(tex, element, { displayMode: isDisplayed, trust: false, throwOnError: false, strict: "ignore", maxSize: 20, maxExpand: 200, output: "html" });
}
