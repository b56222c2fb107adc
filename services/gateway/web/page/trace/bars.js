/** Bars as SVG, whose places are attributes: the page's policy forbids styles in markup. */

import { html } from "../vendor/htm/standalone.module.js";
import { showSeconds } from "./numbers.js";
import { PHASES } from "./costs.js";

/** A value as a bar from 0 on `scale` (`[least, greatest]`), with a line at `line` if that is a number. */
export function Bar({ value, scale, line = null }) {
  const x = (number) => (100 * (number - scale[0])) / (scale[1] - scale[0] || 1);
  const zero = x(Math.min(Math.max(0, scale[0]), scale[1]));
  const isFinite = value !== null && Number.isFinite(value);
  const end = isFinite ? x(value) : zero;
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="ground" x="0" y="0" width="100" height="10" />
    <rect class="value" x=${Math.min(zero, end)} y="1.5" width=${Math.max(Math.abs(end - zero), isFinite ? 0.6 : 0)} height="7" />
    <line class="zero" x1=${zero} x2=${zero} y1="0" y2="10" vector-effect="non-scaling-stroke" />
    ${line !== null && ["line halo", "line"].map((name) => html`<line class=${name} x1=${x(line)} x2=${x(line)} y1="-2.5" y2="12.5" vector-effect="non-scaling-stroke" />`)}
  </svg>`;
}

/** Seconds by phase as one stacked bar, and in words. */
export function PhaseBar({ seconds, label }) {
  const all = Object.keys(PHASES).filter((phase) => seconds[phase] > 0);
  const total = all.reduce((sum, phase) => sum + seconds[phase], 0);
  let at = 0;
  const parts = all.map((phase) => {
    const width = (100 * seconds[phase]) / total;
    at += width;
    return html`<rect class=${`phase ${phase}`} x=${at - width} y="0" width=${width} height="10" key=${phase} />`;
  });
  return html`<figure class="phases">
    <figcaption>${label}: ${showSeconds(total)}</figcaption>
    <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">${parts}</svg>
    <ul>
      ${all.map(
        (phase) => html`<li key=${phase}><span class=${`swatch ${phase}`}></span>${PHASES[phase]} <b>${showSeconds(seconds[phase])}</b> <span class="quiet">${Math.round((100 * seconds[phase]) / total)} %</span></li>`,
      )}
    </ul>
  </figure>`;
}

/** Tokens by role: what each model wrote, and how many of them are in the answer. */
export function Tokens({ tokens, label }) {
  const most = Math.max(tokens.draft, tokens.target, 1);
  const row = (role, written, kept) => html`<tr>
    <th scope="row"><span class=${`swatch ${role}`}></span>${role}</th>
    <td class="with-bar"><svg class=${`tokens ${role}`} viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <rect class="written" x="0" y="1" width=${(100 * written) / most} height="8" />
      <rect class="kept" x="0" y="1" width=${(100 * kept) / most} height="8" />
    </svg></td>
    <td>${written}</td>
    <td>${kept}</td>
  </tr>`;
  return html`<table class="tokens">
    <caption>${label}</caption>
    <thead><tr><th scope="col">model</th><td></td><th scope="col">written</th><th scope="col">kept</th></tr></thead>
    <tbody>${row("draft", tokens.draft, tokens.keptDraft)}${row("target", tokens.target, tokens.keptTarget)}</tbody>
  </table>`;
}
