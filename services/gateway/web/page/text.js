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
    this.show();
  }

  componentDidUpdate() {
    this.show();
  }

  shouldComponentUpdate(next) {
    return next.part.text !== this.props.part.text;
  }

  /**
   * The element has no children of preact's, so that KaTeX and preact never write the same nodes. A formula that is wider
   * than its place scrolls, and the keyboard must reach what scrolls.
   */
  async show() {
    const { part } = this.props;
    if (!mathematics.isLoaded()) {
      this.base.textContent = part.text;
      await mathematics.load();
    }
    if (!this.base || this.props.part.text !== part.text) return;
    mathematics.set(this.base, part);
    if (this.base.scrollWidth > this.base.clientWidth) this.base.tabIndex = 0;
    else this.base.removeAttribute("tabindex");
  }

  render({ part }) {
    return html`<span class=${part.isDisplay ? "formula display" : "formula"}></span>`;
  }
}
