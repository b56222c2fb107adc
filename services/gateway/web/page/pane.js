/** One run as it grows: its numbers, its steps on a scale of seconds, and its text. */

import { html } from "./vendor/htm/standalone.module.js";
import { hasSucceeded, isOpen, secondsOf, sourcesOf, tokensOf } from "./run.js";
import { Text } from "./text.js";
import { Badge, ErrorBox, Source, State, formatNumber, formatSeconds } from "./ui.js";

/**
 * @param {{title: string, run: object, now: number, scale: number, id: string, expected: ?string}} props `scale`: the seconds of
 *   the strip's full width; `expected`: the right answer, where it is known
 */
export function Pane({ title, run, now, scale, id, expected }) {
  const seconds = secondsOf(run, now);
  const tokens = tokensOf(run);
  return html`<section class="pane card" aria-labelledby=${id} aria-busy=${isOpen(run) ? "true" : "false"}>
    <header class="pane-head">
      <h2 id=${id}><bdi>${title}</bdi></h2>
      <${Phase} run=${run} />
      ${run.id && html`<a class="pane-link" href=${`#/jobs/${encodeURIComponent(run.id)}`}>Trace</a>`}
    </header>
    <dl class="numbers">
      <${Number} name="Seconds" value=${seconds === null ? "–" : seconds.toFixed(2)} />
      <${Number} name="Steps" value=${formatNumber(run.steps.length)} />
      <${Number} name="Draft tokens" value=${formatNumber(tokens.draft)} kind="draft" />
      <${Number} name="Target tokens" value=${formatNumber(tokens.target)} kind="target" />
      <${Number} name="PRM tokens" value=${formatNumber(tokens.prm)} />
    </dl>
    <${Strip} run=${run} seconds=${seconds} scale=${scale} />
    ${!run.isConnected && isOpen(run) && html`<p class="notice">The connection is lost. The job goes on, and the page comes back to it.</p>`}
    <div role="log" aria-label=${`Steps of ${title}`}>
      <ol class="steps">${run.steps.map((step, place) => html`<${Step} key=${place} step=${step} />`)}</ol>
    </div>
    ${run.phase === "waiting" && html`<p class="waiting">${run.id ? "Waiting for its turn" : "Submitting"}<span class="dots" aria-hidden="true"></span></p>`}
    ${run.phase === "running" && html`<p class="waiting">Writing the next step<span class="dots" aria-hidden="true"></span></p>`}
    <${End} run=${run} seconds=${seconds} expected=${expected} />
  </section>`;
}

function Phase({ run }) {
  if (run.error) return html`<${Badge} kind="bad">refused<//>`;
  if (run.job) return html`<${State} state=${run.job.state} />`;
  return html`<${State} state=${run.phase === "running" ? "RUNNING" : "QUEUED"} />`;
}

function Number({ name, value, kind = "" }) {
  return html`<div class=${kind}><dt>${name}</dt><dd class="number">${value}</dd></div>`;
}

/** The steps one after the other, each as long as its models took. The rest up to the job's seconds is the system's. */
function Strip({ run, seconds, scale }) {
  const sources = sourcesOf(run);
  const counts = ["draft", "target"].map((source) => `${sources.filter((each) => each === source).length} by the ${source}`);
  const share = (value) => `${Math.min(100, (100 * value) / Math.max(scale, 0.001))}%`;
  const label = `${run.steps.length} steps in ${formatSeconds(seconds)}: ${counts.join(", ")}`;
  return html`<div class="strip" role="img" aria-label=${label}>
    <div class="strip-time" style=${{ width: share(seconds ?? 0) }}></div>
    <div class="strip-steps">
      ${run.steps.map((step, place) => html`<span key=${place} class=${`strip-step ${sources[place]}`} style=${{ width: share(step.seconds ?? 0) }}></span>`)}
    </div>
  </div>`;
}

function Step({ step }) {
  if (step.branches?.length) {
    return html`<li class="step"><div class="kept several"><span class="step-label">Round of ${step.branches.length} trajectories</span></div></li>`;
  }
  return html`<li class="step">
    ${step.rejected && html`<${Rejected} rejected=${step.rejected} />`}
    <div class=${`kept ${step.source}`}>
      <span class="step-label"><${Source} source=${step.source} />${label(step)}</span>
      <p class="step-text"><bdi><${Text} text=${step.text.trim()} /></bdi></p>
    </div>
  </li>`;
}

function label(step) {
  const parts = [step.outcome === "resampled" ? "written again" : null, told("reward", step.reward), told("tilted", step.tilted_reward)];
  return html`<span class="number">${parts.filter(Boolean).join(" · ")}</span>`;
}

function told(name, value) {
  if (value === null || value === undefined) return null;
  return `${name} ${typeof value === "number" ? value.toFixed(2) : value}`;
}

function Rejected({ rejected }) {
  const numbers = [told("reward", rejected.reward), told("tilted", rejected.tilted_reward)].filter(Boolean).join(" · ");
  return html`<div class="rejected">
    <span class="step-label"><${Badge} kind="draft">draft<//><${Badge} kind="bad">rejected<//><span class="number">${numbers}</span></span>
    <p class="step-text"><del><bdi><${Text} text=${rejected.text.trim()} /></bdi></del></p>
  </div>`;
}

function End({ run, seconds, expected }) {
  const { job, error } = run;
  if (error) return html`<${ErrorBox} error=${error} />`;
  if (!job) return null;
  if (!hasSucceeded(run)) return html`<${ErrorBox} error=${{ message: job.error || `The job has ended: ${String(job.state).toLowerCase()}.` }} />`;
  const isWhole = run.steps.some((step) => step.branches?.length);
  return html`<div class="pane-end" role="status">
    ${isWhole && html`<p class="step-text"><bdi><${Text} text=${job.text} /></bdi></p>`}
    <p class="answer"><span>Answer</span><strong><bdi>${job.answer ?? "none found in the text"}</bdi></strong>
      ${expected && html`<${Badge} kind=${job.answer === expected ? "good" : "bad"}>${job.answer === expected ? "right" : `wrong: it is ${expected}`}<//>`}<span class="visually-hidden">in ${formatSeconds(seconds)}</span></p>
  </div>`;
}
