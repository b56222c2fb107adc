/** What a person may do with a job, and what was done. */

import { html, useState } from "./vendor/htm/standalone.module.js";
import { ApiError, post } from "./api.js";
import { Confirmation } from "./dialogs.js";
import { Button, ErrorBox } from "./ui.js";

const UNFINISHED = new Set(["QUEUED", "RUNNING"]);

/** The address of a job's trace. */
export const traceOf = (id) => `#/jobs/${encodeURIComponent(id)}`;

/**
 * Returns `{buttons, messages}`: what shows the buttons of a job, and what stands outside of the table: the question before a job is
 * cancelled, an error, and a sentence on what was done, which screen readers read out.
 */
export function useJobActions(session, onDone) {
  const [asked, setAsked] = useState(null);
  const [error, setError] = useState(null);
  const [done, setDone] = useState("");
  const mayAct = session.rights.includes("submit");

  function buttons(job) {
    if (!mayAct) return null;
    if (UNFINISHED.has(job.state)) return html`<${Button} onClick=${() => setAsked(job)} aria-label=${`Cancel job ${job.id}`}>Cancel<//>`;
    if (job.state === "DEAD") return html`<${Button} onClick=${() => retry(job)} aria-label=${`Retry job ${job.id}`}>Retry<//>`;
    return null;
  }

  const messages = html`
    <p class="visually-hidden" role="status">${done}</p>
    <${ErrorBox} error=${error} />
    ${asked &&
    html`<${Confirmation} question="Cancel this job?" action="Cancel the job" kind="danger" onConfirm=${cancel} onClose=${() => setAsked(null)}>
      Job <code>${asked.id}</code> stops and keeps the steps that it has. It cannot be taken up again.
    <//>`}
  `;
  return { buttons, messages };

  async function cancel() {
    await post(`/gsi/v1/jobs/${encodeURIComponent(asked.id)}/cancel`, { reason: "cancelled on the web page" });
    finish(`Job ${asked.id} is cancelled.`);
  }

  async function retry(job) {
    setError(null);
    try {
      await post(`/gsi/v1/jobs/${encodeURIComponent(job.id)}/retry`);
      finish(`Job ${job.id} is pushed again.`);
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    }
  }

  function finish(sentence) {
    setDone(sentence);
    onDone();
  }
}

/** Why a job ended without an answer: the beginning, and the rest on demand. */
export function Reason({ text }) {
  const shown = 90;
  if (!text) return null;
  if (text.length <= shown) return html`<span class="reason">${text}</span>`;
  return html`<details class="reason"><summary>${text.slice(0, shown)}…</summary><p>${text}</p></details>`;
}
