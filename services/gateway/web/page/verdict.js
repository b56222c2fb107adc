/** What two runs say about each other, from what was measured. */

import { html } from "./vendor/htm/standalone.module.js";
import { hasSucceeded, isOpen, secondsOf } from "./run.js";
import { formatSeconds } from "./ui.js";

const ABOUT = 1.05; // times as fast, below which two runs count as equally fast

/** Returns `{faster, slower, times}` of two titled runs that have both succeeded, else null. Runs: `{title, run}`. */
export function compare(first, second) {
  if (![first, second].every(({ run }) => hasSucceeded(run))) return null;
  const [faster, slower] = [first, second].map((each) => ({ ...each, seconds: secondsOf(each.run) })).sort((a, b) => a.seconds - b.seconds);
  return faster.seconds > 0 ? { faster, slower, times: slower.seconds / faster.seconds } : null;
}

/** The sentence over two runs: their speeds once both have succeeded, else why there is nothing to compare. */
export function Verdict({ first, second }) {
  return html`<section class="verdict card" role="status" aria-label="Comparison">${content(first, second)}</section>`;
}

function content(first, second) {
  const runs = [first.run, second.run];
  const failed = [first, second].filter(({ run }) => !isOpen(run) && !hasSucceeded(run)).map(({ title }) => title);
  if (failed.length) {
    return html`<p class="verdict-times soft">Nothing to compare</p><p class="soft"><bdi>${failed.join(" and ")}</bdi> ended without an answer.</p>`;
  }
  if (runs.some(isOpen)) {
    const text = runs.some((run) => run.phase === "waiting") ? "Waiting for the models" : "Both write at once";
    return html`<p class="verdict-times soft">${text}…</p><p class="soft">When both have an answer, their seconds are compared here.</p>`;
  }
  const found = compare(first, second);
  if (!found) return html`<p class="verdict-times soft">Nothing to compare</p><p class="soft">Both ended within a millisecond.</p>`;
  const { faster, slower, times } = found;
  const [one, other] = [faster.run.job.answer, slower.run.job.answer];
  return html`<p class="verdict-times">
      ${times < ABOUT
        ? html`<strong>About as fast</strong> as each other`
        : html`<strong><bdi>${faster.title}</bdi> was <span class="number">${times.toFixed(1)}</span> times as fast</strong> as <bdi>${slower.title}</bdi>`}
    </p>
    <p class="soft">
      <span class="number">${formatSeconds(faster.seconds)}</span> against <span class="number">${formatSeconds(slower.seconds)}</span>, from the start of each
      job to its end, while both shared the models.
      ${one === other ? html` Both answered <bdi>${one ?? "nothing"}</bdi>.` : html` The answers differ: <bdi>${one ?? "none"}</bdi> and <bdi>${other ?? "none"}</bdi>.`}
    </p>`;
}
