/** A text of a model or a user as a component: always text nodes, with its mathematics set by KaTeX. */

import { Component, html } from "./vendor/htm/standalone.module.js";
import * as mathematics from "./mathematics.js";

const MAX_CHARACTERS = 100_000; // a longer text is shown without mathematics

/** `text`, its mathematics set. The source of a formula is shown until KaTeX is there, and where KaTeX refuses it. */
export class Text extends Component {
  shouldComponentUpdate(next) {
    return next.text !== this.props.text;
  }

  render({ text }) {
    if (text.length > MAX_CHARACTERS) return html`<span class="prose">${text}</span>`;
    const parts = mathematics.parse(text);
    return html`<span class="prose">${parts.map((part) => (part.tex === undefined ? part.text : html`<${Formula} part=${part} key=${part.text} />`))}</span>`;
  }
}

class Formula extends Component {
  componentDidMount() {
    setWhenNear(this.base, this.props.part);
  }

  componentDidUpdate() {
    setWhenNear(this.base, this.props.part);
  }

  componentWillUnmount() {
    waiting.delete(this.base);
    near.unobserve(this.base);
  }

  shouldComponentUpdate(next) {
    return next.part.text !== this.props.part.text;
  }

  /** The element has no children of preact's, so that KaTeX and preact never write the same nodes. */
  render({ part }) {
    return html`<span class=${part.isDisplay ? "formula display" : "formula"}></span>`;
  }
}

/** Formulas are set when they come near the window: an answer may have thousands. */
const near = new IntersectionObserver(setThoseNear, { rootMargin: "100% 0px" });
const waiting = new Map(); // an element -> the part of a text that it shows
addEventListener("beforeprint", () => mathematics.isLoaded() && set([...waiting.keys()]));

function setWhenNear(element, part) {
  element.textContent = part.text;
  waiting.set(element, part);
  near.unobserve(element); // an element that is observed anew is looked at anew
  near.observe(element);
}

async function setThoseNear(entries) {
  const elements = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
  if (!elements.length) return;
  await mathematics.load();
  set(elements.filter((element) => waiting.has(element)));
}

/** A formula that is wider than its place scrolls, and the keyboard must reach what scrolls: looked at once for all. */
function set(elements) {
  for (const element of elements) {
    mathematics.set(element, waiting.get(element));
    waiting.delete(element);
    near.unobserve(element);
  }
  const wide = elements.filter((element) => element.scrollWidth > element.clientWidth);
  for (const element of elements) element.removeAttribute("tabindex");
  for (const element of wide) element.tabIndex = 0;
}
