/** What two runs say about each other, from what was measured. */

import { html } from "./vendor/htm/standalone.module.js";
import { hasSucceeded, secondsOf } from "./run.js";
import { formatSeconds } from "./ui.js";

const ABOUT = 1.05; // times as fast, below which two runs count as equally fast

/** Returns `{faster, slower, times}` of two titled runs that have both succeeded, else null. Runs: `{title, run}`. */
export function compare(first, second) {
  if (![first, second].every(({ run }) => hasSucceeded(run))) return null;
  const [faster, slower] = [first, second].map((each) => ({ ...each, seconds: secondsOf(each.run) })).sort((a, b) => a.seconds - b.seconds);
  return faster.seconds > 0 ? { faster, slower, times: slower.seconds / faster.seconds } : null;
}

/** The sentence under two runs; nothing while one goes on or if one has failed. */
export function Verdict({ first, second }) {
  const found = compare(first, second);
  if (!found) return null;
  const { faster, slower, times } = found;
  const [one, other] = [faster.run.job.answer, slower.run.job.answer];
  return html`<section class="verdict card" role="status" aria-label="Comparison">
    <p class="verdict-times">
      ${times < ABOUT
        ? html`<strong>About as fast</strong> as each other`
        : html`<strong><bdi>${faster.title}</bdi> was <span class="number">${times.toFixed(1)}</span> times as fast</strong> as <bdi>${slower.title}</bdi>`}
    </p>
    <p class="soft">
      <span class="number">${formatSeconds(faster.seconds)}</span> against <span class="number">${formatSeconds(slower.seconds)}</span>.
      ${one === other ? html` Both answered <bdi>${one ?? "nothing"}</bdi>.` : html` The answers differ: <bdi>${one ?? "none"}</bdi> and <bdi>${other ?? "none"}</bdi>.`}
      ${" "}Measured from the start of each job to its end. Both ran at once and shared the models.
    </p>
  </section>`;
}
