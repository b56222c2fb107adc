/** The answer, step by step: the draft's and the target's, rejected ones crossed out where they stood. */

import { Component, html, useState } from "../vendor/htm/standalone.module.js";
import { Button, Source } from "../ui.js";
import { Text } from "../text.js";
import { Panel } from "./candidates.js";
import { read, show } from "./numbers.js";
import { sayJudgement, whyRejected } from "./selection.js";

const LONG = 60; // steps; a longer answer is laid out only where it is looked at

/**
 * The steps as a list. `shown`: `[{step, record, parent}]`, each a kept step with its round's record and, in a search,
 * the place of its trajectory in the round before (else null). `open`: the numbers of the steps whose panel is open.
 */
export function Steps({ shown, params, open, onToggle, linkTo }) {
  return html`<ol class=${shown.length > LONG ? "steps long" : "steps"} onKeyDown=${moveBetweenSteps}>
    ${shown.map(
      ({ step, record, parent }) => html`<${Step} step=${step} record=${record} parent=${parent} params=${params} isOpen=${open.has(step.index + 1)} onToggle=${onToggle} linkTo=${linkTo} key=${step.index} />`,
    )}
  </ol>`;
}

/** The arrows move between the steps' buttons, Home and End to the first and the last. */
function moveBetweenSteps(event) {
  const button = event.target.closest?.(".step-head");
  if (!button || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = [...event.currentTarget.querySelectorAll(".step-head")];
  const at = all.indexOf(button);
  const place = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (place === undefined || !all[place]) return;
  event.preventDefault();
  all[place].focus();
}

/** A step draws itself anew only when something of it changes: a long answer stays quick. */
class Step extends Component {
  shouldComponentUpdate(next) {
    return ["step", "isOpen", "params", "parent"].some((name) => next[name] !== this.props[name]);
  }

  render({ step, record, parent, params, isOpen, onToggle, linkTo }) {
    const number = step.index + 1;
    const id = `step-${number}`;
    return html`<li class=${`step ${step.source} ${step.outcome}`} id=${id}>
      <button type="button" class="step-head" aria-expanded=${isOpen ? "true" : "false"} aria-controls=${`${id}-panel`} onClick=${() => onToggle(number)}>
        <span class="step-number">Step ${number}</span> <${Source} source=${step.source} /> <span class="numbers">${numbersOf(step)}</span><span class="arrow" aria-hidden="true"></span>
      </button>
      <div class="step-text">
        ${step.rejected && html`<${Rejected} rejected=${step.rejected} params=${params} judgements=${step.judgements} />`}
        <div class="kept"><${Text} text=${step.text.trimEnd()} /></div>
      </div>
      <div class="panel" id=${`${id}-panel`} hidden=${!isOpen}>
        ${isOpen && html`<${CopyLink} link=${linkTo(number)} number=${number} /><${Judgements} judgements=${step.judgements} /><${Panel} record=${record} params=${params} parent=${parent} taken=${parent === null ? null : step.text} />`}
      </div>
    </li>`;
  }
}

/** The draft's step that failed the test, crossed out where it stood, and why. */
function Rejected({ rejected, params, judgements }) {
  return html`<div class="rejected">
    <p class="why"><strong>The draft's step was rejected:</strong> ${whyRejected(rejected, params, judgements)}. The target wrote the step.</p>
    <del><span class="visually-hidden">Rejected: </span><${Text} text=${rejected.text.trimEnd()} /></del>
  </div>`;
}

/** What models said of the draft's candidate, in the order of asking. */
function Judgements({ judgements = [] }) {
  return judgements.map((judgement) => html`<p class="rule" key=${judgement.source}>${capital(sayJudgement(judgement))}.</p>`);
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function numbersOf(step) {
  if (step.judgements?.length) return `score ${show(step.judgements.at(-1).score, 2)}`;
  const reward = read(step.reward);
  const tilted = read(step.tilted_reward);
  return [reward !== null && `reward ${show(reward, 2)}`, tilted !== null && `tilted ${show(tilted, 2)}`].filter(Boolean).join(" · ");
}

function CopyLink({ link, number }) {
  const [said, setSaid] = useState(null);
  async function copy() {
    try {
      await navigator.clipboard.writeText(link);
      setSaid("Copied");
    } catch {
      setSaid(link); // a page without TLS has no clipboard
    }
  }
  return html`<div class="copy-link">
    <${Button} kind="quiet" onClick=${copy} aria-label=${`Copy link to step ${number}`}>Copy link<//>
    <span role="status">${said === link ? html`<input class="link" readonly value=${link} aria-label="Link to this step" onFocus=${(event) => event.target.select()} />` : said}</span>
  </div>`;
}

/** The steps at a glance: a bar each, as high as its reward, in the colour of its writer. A click goes to the step. */
export function Strip({ shown, onGo }) {
  const width = 100 / Math.max(shown.length, 24); // few steps make no wide blocks
  const resampled = shown.filter(({ step }) => step.outcome === "resampled").length;
  const label = `${shown.length} steps; the target wrote ${resampled} of them after a rejection`;
  const bar = ({ step }, i) => {
    const reward = read(step.reward);
    const height = reward === null || !Number.isFinite(reward) ? 10 : 3 + 17 * Math.min(1, Math.max(0, reward));
    const goes = () => onGo(step.index + 1);
    return html`<g class=${step.source} onClick=${goes} key=${step.index}>
      <rect class="ground" x=${i * width} y="0" width=${width} height="24" />
      <rect class="value" x=${i * width + 0.08 * width} y=${20 - height} width=${0.84 * width} height=${height} />
      ${step.rejected && html`<rect class="rejection" x=${i * width + 0.08 * width} y="21.5" width=${0.84 * width} height="2.5" />`}
    </g>`;
  };
  return html`<svg class="strip" role="img" aria-label=${label} viewBox="0 0 100 24" preserveAspectRatio="none">${shown.map(bar)}</svg>`;
}
