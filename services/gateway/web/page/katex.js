/** KaTeX, loaded when the first formula is set. */

import { addStyles } from "./styles.js";

const OPTIONS = { trust: false, errorColor: "currentcolor", throwOnError: true, strict: "ignore", maxSize: 20, maxExpand: 200 };

let loading = null;

/** Returns the library, with its style sheet on its way. */
export function loadKatex() {
  addStyles("vendor/katex/katex.min.css");
  loading ??= import("./vendor/katex/katex.min.js").then(() => self.katex);
  return loading;
}

/**
 * Sets a formula into an element; `source` stands there as text if it is no TeX. Nothing in it becomes a link, an image
 * or a style of the page.
 * @param {object} katex what `loadKatex` returns
 */
export function setFormula(katex, element, tex, { isDisplayed = false, source = tex, output = "htmlAndMathml" } = {}) {
  try {
    katex.render(tex, element, { ...OPTIONS, displayMode: isDisplayed, output });
  } catch {
    element.textContent = source;
  }
}
