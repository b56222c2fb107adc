/** The view of `#/jobs`: the newest jobs, filtered by what the address says, and looked at again every few seconds. */

import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { get } from "./api.js";
import { CardTable } from "./card_table.js";
import { Reason, traceOf, useJobActions } from "./job_actions.js";
import { changeQuery } from "./routes.js";
import { Ago, Button, Empty, ErrorBox, Field, Loading, State, formatShare, useLoaded } from "./ui.js";

const LOOK_MS = 2000;
const SEARCH_MS = 5000; // a search reads more jobs
const TYPING_MS = 250;
const FIRST_LIMIT = 50;
const MAX_LIMIT = 200;
const STATES = ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "DEAD"];
const FILTERS = ["q", "state", "method", "tenant", "queue"];

/** The view. */
export default function Jobs({ route, session }) {
  const filters = Object.fromEntries(FILTERS.map((name) => [name, route.query.get(name) ?? ""]));
  const [limit, setLimit] = useState(FIRST_LIMIT);
  const every = filters.q || filters.method || filters.tenant ? SEARCH_MS : LOOK_MS;
  const found = useLoaded((signal) => get("/gsi/v1/jobs", { ...filters, limit }, signal), [...Object.values(filters), limit], every);
  const actions = useJobActions(session, found.reload);
  return html`<div class="jobs">
    <h1>Jobs</h1>
    <${Filters} filters=${filters} session=${session} />
    ${actions.messages}
    <${ErrorBox} error=${found.error} onRetry=${found.reload} />
    ${list()}
  </div>`;

  function list() {
    if (!found.value) return found.error ? null : html`<${Loading} />`;
    const jobs = found.value.jobs;
    if (!jobs.length) return html`<${None} isFiltered=${Object.values(filters).some(Boolean)} />`;
    return html`<${JobTable} jobs=${jobs} session=${session} buttons=${actions.buttons} />
      ${jobs.length === limit && limit < MAX_LIMIT && html`<p class="jobs-more"><${Button} kind="quiet" onClick=${() => setLimit(MAX_LIMIT)}>Show up to ${MAX_LIMIT}<//></p>`}
      ${jobs.length === MAX_LIMIT && html`<p class="jobs-more soft">These are the newest ${MAX_LIMIT}. A filter finds others.</p>`}`;
  }
}

function None({ isFiltered }) {
  if (!isFiltered) return html`<${Empty} title="No jobs yet">A job that is submitted appears here. <a href="#/">To the playground</a><//>`;
  return html`<${Empty} title="No job is like that"><a href="#/jobs">Show all jobs</a><//>`;
}

function Filters({ filters, session }) {
  const operates = session.rights.includes("operate");
  const choose = (name) => (event) => changeQuery({ [name]: event.target.value });
  return html`<form class="filters" role="search" aria-label="Jobs" onSubmit=${(event) => event.preventDefault()}>
    <${Typed} name="q" label="Part of an id or of a prompt" type="search" value=${filters.q} />
    <${Choice} name="state" value=${filters.state} choices=${STATES} onChange=${choose("state")} />
    <${Choice} name="method" value=${filters.method} choices=${session.methods} onChange=${choose("method")} />
    ${session.queues.length > 1 && html`<${Choice} name="queue" value=${filters.queue} choices=${session.queues} onChange=${choose("queue")} />`}
    ${operates && html`<${Typed} name="tenant" label="Tenant" type="text" value=${filters.tenant} />`}
  </form>`;
}

function Choice({ name, value, choices, onChange }) {
  return html`<${Field} id=${`filter-${name}`} label=${name[0].toUpperCase() + name.slice(1)}>
    <select id=${`filter-${name}`} value=${value} onChange=${onChange}>
      <option value="">any</option>
      ${choices.map((each) => html`<option key=${each} value=${each}>${each.toLowerCase()}</option>`)}
    </select>
  <//>`;
}

/** A text that goes to the address when the typing pauses, and follows an address that changes otherwise. */
function Typed({ name, label, type, value }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  useEffect(() => setText(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const id = `filter-${name}`;
  return html`<${Field} id=${id} label=${label}>
    <input id=${id} type=${type} maxlength="200" autocomplete="off" spellcheck="false" value=${text} onInput=${take} />
  <//>`;

  function take(event) {
    const typed = event.target.value;
    setText(typed);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => changeQuery({ [name]: typed }), TYPING_MS);
  }
}

function JobTable({ jobs, session, buttons }) {
  const columns = [
    { name: "job", label: "Job", show: (job) => html`<${Name} job=${job} />` },
    { name: "state", label: "State", show: (job) => html`<${State} state=${job.state} />` },
    { name: "method", label: "Method", show: (job) => job.method ?? "–" },
    session.rights.includes("operate") && { name: "tenant", label: "Tenant", show: (job) => html`<bdi>${job.tenant}</bdi>` },
    session.queues.length > 1 && { name: "queue", label: "Queue", show: (job) => job.queue },
    { name: "age", label: "Age", show: (job) => html`<${Ago} at=${job.submitted_at} />` },
    { name: "steps", label: "Steps", show: (job) => job.num_steps },
    { name: "accepted", label: "Accepted", show: (job) => html`<${Acceptance} share=${job.acceptance} />` },
    { name: "answer", label: "Answer", show: (job) => html`<${Answer} job=${job} />` },
    { name: "actions", label: "Actions", show: buttons },
  ].filter(Boolean);
  return html`<${CardTable} caption="Jobs, the newest first" columns=${columns} rows=${jobs} rowKey=${(job) => `${job.queue}/${job.id}`} />`;
}

function Name({ job }) {
  return html`<a class="job-id" href=${traceOf(job.id)} title=${job.id}>${job.id}</a>
    <bdi class="job-prompt soft">${job.prompt}</bdi>`;
}

function Acceptance({ share }) {
  if (share === null) return "–";
  return html`<span class="acceptance"><meter min="0" max="1" value=${share} aria-hidden="true"></meter><span class="share">${formatShare(share)}</span></span>`;
}

function Answer({ job }) {
  if (job.state === "SUCCEEDED") return job.answer ? html`<bdi class="job-answer">${job.answer}</bdi>` : html`<span class="soft">no answer found</span>`;
  return html`<${Reason} text=${job.error} />`;
}
