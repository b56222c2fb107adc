/** The head of a trace: the job's state, its facts, why it ended, and what may be done with it. */

import { html, useState } from "../vendor/htm/standalone.module.js";
import { ApiError, get } from "../api.js";
import { useJobActions } from "../job_actions.js";
import { Ago, Button, ErrorBox, State, formatNumber, formatSeconds, useNow } from "../ui.js";
import { Text } from "../text.js";
import { acceptance } from "./costs.js";
import { isFinal } from "./live.js";
import { canReject, parametersOf } from "./selection.js";

const REASONS = {
  eos: "the model ended it",
  answer: "the answer was found",
  low_reward: "no candidate reached the reward floor",
  max_steps: "it reached the limit of steps",
  max_tokens: "it reached the limit of tokens",
};

export function Head({ job, id, steps, params, session, onChange, shown }) {
  return html`<header class="trace-head">
    <p class="crumbs"><a href="#/jobs">Jobs</a> <span aria-hidden="true">/</span></p>
    <div class="title-line"><h1>${id}</h1> <${State} state=${job.state} /></div>
    <${WhyItEnded} job=${job} />
    <${Facts} job=${job} steps=${steps} params=${params} />
    <${Actions} job=${job} id=${id} session=${session} onChange=${onChange} params=${params} shown=${shown} steps=${steps} />
    <${Parameters} params=${job.params} models=${job.models} />
  </header>`;
}

function WhyItEnded({ job }) {
  if (!job.error) return null;
  const isTold = job.state === "DEAD" || !(job.attempts > 1); // a dead job's error says how often it was tried
  return html`<div class="why-ended" role="note">
    <p><strong>${WORDS[job.state] ?? "Its last error"}:</strong> ${job.error}</p>
    ${!isTold && html`<p class="quiet">It was tried ${job.attempts} times.</p>`}
  </div>`;
}

const WORDS = { DEAD: "The job was given up", FAILED: "The job failed", EXPIRED: "The job expired", CANCELLED: "The job was cancelled" };

function Facts({ job, steps, params }) {
  const isRunning = !isFinal(job.state);
  const now = useNow(1000, isRunning && Boolean(job.started_at));
  const began = job.started_at ?? job.submitted_at;
  const end = job.finished_at ?? now / 1000;
  const share = acceptance(steps);
  const facts = [
    ["Answer", job.answer && html`<${Text} text=${`\\(${job.answer}\\)`} />`],
    ["Method", params.method],
    ["Parameters", parametersOf(params).map(([name, number]) => `${name}\u00a0=\u00a0${number}`).join(", ")],
    ["Steps", `${steps.length}${canReject(params) && share !== null ? `, ${Math.round(100 * share)}\u00a0% accepted` : ""}`],
    ["Time", began ? formatSeconds(Math.max(0, end - began)) : "not begun"],
    ["Tokens", formatNumber(steps.reduce((sum, step) => sum + step.draft_tokens + step.target_tokens, 0))],
    ["Ended", job.stop_reason && (REASONS[job.stop_reason] ?? job.stop_reason)],
    ["Submitted", job.submitted_at && html`<${Ago} at=${job.submitted_at} />`],
    ["Tenant", job.tenant],
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Actions({ job, id, session, onChange, params, shown, steps }) {
  const [error, setError] = useState(null);
  const { buttons, messages } = useJobActions(session, onChange);
  async function saveJson() {
    try {
      setError(null);
      save(`${id}.json`, "application/json", JSON.stringify(await get(`/gsi/v1/jobs/${encodeURIComponent(id)}`), null, 2));
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    }
  }
  async function saveHtml() {
    const { exportHtml } = await import("./export.js");
    save(`${id}.html`, "text/html", await exportHtml({ job, id, steps, params, shown }));
  }
  return html`<div class="actions">
    ${buttons(job)}
    <${Button} onClick=${saveJson}>Export JSON<//>
    <${Button} onClick=${saveHtml}>Export HTML<//>
    <${ErrorBox} error=${error} />
    ${messages}
  </div>`;
}

/** Let the browser save a text as a file. */
function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replaceAll(/[^\w.-]/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function Parameters({ params, models }) {
  if (!params) return null;
  const rows = Object.entries(params).sort(([a], [b]) => a.localeCompare(b));
  const model = ([role, { model: name, engine }]) => html`<tr key=${role}><th scope="row">${role}</th><td>${name}${engine && ` (${engine})`}</td></tr>`;
  return html`<details class="parameters"><summary>All parameters${models ? " and models" : ""}</summary>
    <table><tbody>${rows.map(([name, value]) => html`<tr key=${name}><th scope="row"><code>${name}</code></th><td><code>${JSON.stringify(value)}</code></td></tr>`)}${models && Object.entries(models).map(model)}</tbody></table>
  </details>`;
}
