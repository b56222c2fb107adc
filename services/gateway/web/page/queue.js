/** The view of `#/queue`: lanes, coordinators, rates and dead letters of a queue; pause and resume for whom may. */

import { html, useEffect, useState } from "./vendor/htm/standalone.module.js";
import { get, post } from "./api.js";
import { CardTable } from "./card_table.js";
import { TimeChart } from "./chart.js";
import { Confirmation } from "./dialogs.js";
import { Reason, traceOf, useJobActions } from "./job_actions.js";
import { changeQuery } from "./routes.js";
import { Ago, Badge, Button, Empty, ErrorBox, Field, Loading, Table, formatNumber, formatSeconds, useLoaded } from "./ui.js";

const LOOK_MS = 2000;
const MAX_POINTS = 900; // half an hour
const SHOWN_JOBS = 20;

/** The view. */
export default function Queue({ route, session }) {
  const name = route.query.get("queue") || session.queues[0];
  const found = useLoaded((signal) => get("/gsi/v1/queue", { queue: name }, signal), [name], LOOK_MS);
  const queue = found.value?.queue === name ? found.value : null;
  const history = useHistory(queue);
  const actions = useJobActions(session, found.reload);
  return html`<div class="queue">
    <${Head} name=${name} queue=${queue} session=${session} reload=${found.reload} />
    ${actions.messages}
    <${ErrorBox} error=${found.error} onRetry=${found.reload} />
    ${!queue && !found.error && html`<${Loading} />`}
    ${queue &&
    html`<${Counts} queue=${queue} />
      <${Rates} queue=${queue} history=${history} />
      <${Lanes} lanes=${queue.lanes} />
      <${Coordinators} coordinators=${queue.coordinators} />
      <${DeadLetters} letters=${queue.dead_letters} dead=${queue.dead} buttons=${actions.buttons} />`}
  </div>`;
}

function Head({ name, queue, session, reload }) {
  const [isAsking, setAsking] = useState(false);
  const operates = session.rights.includes("operate");
  const isPaused = queue?.is_paused ?? false;
  return html`<div class="queue-head">
    <h1>Queue <bdi>${name}</bdi></h1>
    ${queue && html`<${Badge} kind=${isPaused ? "warn" : "good"}>${isPaused ? "paused" : "open"}<//>`}
    <div class="queue-tools">
      ${session.queues.length > 1 &&
      html`<${Field} id="queue-name" label="Queue">
        <select id="queue-name" value=${name} onChange=${(event) => changeQuery({ queue: event.target.value })}>
          ${session.queues.map((each) => html`<option key=${each}>${each}</option>`)}
        </select>
      <//>`}
      ${operates && queue && html`<${Button} kind=${isPaused ? "primary" : "plain"} onClick=${() => setAsking(true)}>${isPaused ? "Resume…" : "Pause…"}<//>`}
    </div>
    ${isAsking &&
    html`<${Confirmation} question=${isPaused ? "Resume this queue?" : "Pause this queue?"} action=${isPaused ? "Resume" : "Pause"} onConfirm=${change} onClose=${() => setAsking(false)}>
      ${isPaused ? "Coordinators take its jobs again at once." : "Coordinators take none of its jobs until it is resumed. Jobs that run go on, and new ones are queued."}
    <//>`}
  </div>`;

  async function change() {
    await post(`/gsi/v1/queue/${isPaused ? "resume" : "pause"}?queue=${encodeURIComponent(name)}`);
    reload();
  }
}

const waitingIn = (queue) => queue.lanes.reduce((sum, lane) => sum + lane.lag, 0);
const runningIn = (queue) => queue.lanes.reduce((sum, lane) => sum + lane.entries - lane.lag, 0);
const finishedIn = (queue) => Object.values(queue.finished_last_minute).reduce((sum, number) => sum + number, 0);

function Counts({ queue }) {
  const counts = [
    ["waiting", waitingIn(queue), "in a lane, not taken yet"],
    ["running", runningIn(queue), "held by a coordinator"],
    ["delayed", queue.delayed, "until their next attempt"],
    ["parked", queue.parked, "their tenant has enough in flight"],
    ["dead", queue.dead, "tried too often"],
  ];
  return html`<dl class="counts">
    ${counts.map(([label, number, hint]) => html`<div key=${label}><dt>${label}</dt><dd class="number">${formatNumber(number)}</dd><dd class="hint">${hint}</dd></div>`)}
  </dl>`;
}

/** Returns what the queue was at each look since the page was opened. */
function useHistory(queue) {
  const [history, setHistory] = useState([]);
  useEffect(() => {
    if (!queue) return;
    const ends = queue.finished_last_minute;
    const succeeded = ends.SUCCEEDED ?? 0;
    const point = { queue: queue.queue, time: Date.now() / 1000, succeeded, others: finishedIn(queue) - succeeded, waiting: waitingIn(queue) };
    setHistory((before) => [...before.filter((each) => each.queue === queue.queue), point].slice(-MAX_POINTS));
  }, [queue]);
  return history;
}

function Rates({ queue, history }) {
  const ends = Object.entries(queue.finished_last_minute).sort();
  const told = ends.map(([state, number]) => `${number} ${state.toLowerCase()}`).join(", ") || "none";
  const series = [
    { label: "succeeded in the last minute", color: "good", values: history.map((each) => each.succeeded) },
    { label: "ended otherwise", color: "bad", dash: [6, 4], values: history.map((each) => each.others) },
    { label: "waiting", color: "accent", dash: [2, 3], values: history.map((each) => each.waiting) },
  ];
  return html`<section aria-labelledby="rates">
    <h2 id="rates">Rates</h2>
    <p class="soft">Finished in the last minute: <span class="number">${told}</span>.</p>
    ${history.length > 0 && html`<${TimeChart} times=${history.map((each) => each.time)} series=${series} summary=${`Since this page was opened, ${history.length} looks. Finished in the last minute: ${told}. Waiting: ${waitingIn(queue)}.`} />`}
  </section>`;
}

function Lanes({ lanes }) {
  const columns = [
    { key: "name", label: "Lane" },
    { key: "entries", label: "Jobs", isNumber: true, render: (lane) => formatNumber(lane.entries) },
    { key: "lag", label: "Lag", isNumber: true, render: (lane) => formatNumber(lane.lag) },
    { key: "oldest", label: "Oldest waits", isNumber: true, render: (lane) => (lane.lag ? formatSeconds(lane.oldest_seconds) : "–") },
  ];
  return html`<section aria-labelledby="lanes">
    <h2 id="lanes">Lanes</h2>
    <${Table} caption="Lanes" columns=${columns} rows=${lanes} rowKey=${(lane) => lane.name} />
  </section>`;
}

function Coordinators({ coordinators }) {
  const columns = [
    { key: "name", label: "Coordinator", render: (each) => html`<code>${each.name}</code>` },
    { key: "num_jobs", label: "Jobs", isNumber: true },
    { key: "jobs", label: "Which", render: (each) => html`<${HeldJobs} coordinator=${each} />` },
  ];
  return html`<section aria-labelledby="coordinators">
    <h2 id="coordinators">Coordinators</h2>
    ${coordinators.length
      ? html`<${Table} caption="Coordinators" columns=${columns} rows=${coordinators} rowKey=${(each) => each.name} />`
      : html`<${Empty} title="No coordinator reads this queue">Jobs wait until one does.<//>`}
  </section>`;
}

function HeldJobs({ coordinator }) {
  const shown = coordinator.jobs.slice(0, SHOWN_JOBS);
  const others = coordinator.num_jobs - shown.length;
  return html`<span class="held">
    ${shown.map((id) => html`<a key=${id} class="job-id" href=${traceOf(id)} title=${id}>${id}</a>`)}
    ${others > 0 && html`<span class="soft">${shown.length ? `and ${others} more` : `${others} of other tenants`}</span>`}
    ${!coordinator.num_jobs && html`<span class="soft">idle</span>`}
  </span>`;
}

function DeadLetters({ letters, dead, buttons }) {
  const columns = [
    { name: "job", label: "Job", show: (letter) => html`<a class="job-id" href=${traceOf(letter.id)} title=${letter.id}>${letter.id}</a>` },
    { name: "why", label: "Why", show: (letter) => html`<span>${letter.reason}</span> <${Reason} text=${letter.error} />` },
    { name: "attempts", label: "Attempts", show: (letter) => letter.attempts ?? "–" },
    { name: "age", label: "Died", show: (letter) => html`<${Ago} at=${letter.at} />` },
    { name: "actions", label: "Actions", show: (letter) => (letter.attempts === null ? null : buttons({ id: letter.id, state: "DEAD" })) },
  ];
  return html`<section aria-labelledby="letters">
    <h2 id="letters">Dead letters</h2>
    ${letters.length
      ? html`<${CardTable} caption="Dead letters, the newest first" columns=${columns} rows=${letters} rowKey=${(letter) => letter.id} />`
      : html`<p class="soft">${dead ? "None of your tenant." : "None: no job was given up."}</p>`}
    ${letters.length > 0 && letters.length < dead && html`<p class="soft small">The newest ${letters.length} of ${formatNumber(dead)}.</p>`}
  </section>`;
}
