/** The playground: a question, one model or two side by side, and the answers as they grow. */

import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { get } from "./api.js";
import { EXAMPLES, answerTo } from "./examples.js";
import { Pane } from "./pane.js";
import { isOpen, secondsOf, useRun } from "./run.js";
import { Setup, fieldOf, toRequest } from "./setup.js";
import { Button, ErrorBox, Field, Loading, describedBy, useLoaded, useNow } from "./ui.js";
import { Verdict } from "./verdict.js";

const ITEM = "gsi-playground";
const SIDES = ["left", "right"];
const TITLES = ["What answers at the left", "What answers at the right"];
const QUICK_MS = 1200; // between looks at the queue while a job waits
const SLOW_MS = 10_000;
const FIRST_N = "4"; // candidates of the first example, which a CPU writes in a second

/** The view of `#/`. */
export default function Playground({ session }) {
  const catalog = useLoaded((signal) => get("/page/methods.json", {}, signal), []);
  if (!catalog.value) return catalog.error ? html`<${ErrorBox} error=${catalog.error} onRetry=${catalog.reload} />` : html`<${Loading} />`;
  if (!session.models.length) return html`<${ErrorBox} error=${{ message: "This key may ask no model." }} />`;
  return html`<${Bench} session=${session} catalog=${catalog.value} />`;
}

function Bench({ session, catalog }) {
  const [settings, setSettings] = useState(() => recall(session.models));
  const runs = [useRun(), useRun()];
  const shown = runs.map(([run]) => run).filter((run) => run.phase !== "idle");
  const isRunning = shown.some(isOpen);
  useNow(100, isRunning); // seconds go on
  const now = performance.now();
  const mayRun = session.rights.includes("submit");
  const setups = settings.isComparing ? settings.setups : settings.setups.slice(0, 1);
  const promptError = shown.map((run) => run.error).find((error) => fieldOf(error) === "prompt");
  const scale = Math.max(0.5, ...shown.map((run) => secondsOf(run, now) ?? 0));

  return html`<div class="playground">
    <${Opening} />
    <form class="composer card" onSubmit=${submit} onKeyDown=${onKey}>
      <${Field} id="prompt" label="Question" error=${promptError?.message}>
        <textarea id="prompt" rows="3" value=${settings.prompt} ...${describedBy("prompt", { error: promptError })}
          onInput=${(event) => change({ prompt: event.target.value })}></textarea>
      <//>
      <div class="examples"><span class="soft small">Examples</span>
        ${EXAMPLES.map((each) => html`<button key=${each.label} type="button" class="chip" aria-pressed=${settings.prompt === each.prompt ? "true" : "false"}
          onClick=${() => change({ prompt: each.prompt })}>${each.label}</button>`)}
      </div>
      <div class=${`setups ${setups.length > 1 ? "two" : ""}`}>
        ${setups.map((setup, place) => html`<${Setup} key=${place} side=${SIDES[place]} title=${setups.length > 1 ? TITLES[place] : "What answers"} setup=${setup}
          models=${session.models} catalog=${catalog} error=${runs[place][0].error} onChange=${(next) => changeSetup(place, next)} />`)}
      </div>
      <div class="actions">
        <label class="switch"><input type="checkbox" checked=${settings.isComparing} disabled=${isRunning}
          onChange=${(event) => change({ isComparing: event.target.checked })} /> Compare two side by side</label>
        <span class="spacer"></span>
        ${isRunning
          ? html`<${Button} kind="danger" onClick=${stop}>Stop<//>`
          : html`<${Button} kind="primary" type="submit" disabled=${!mayRun || !settings.prompt.trim()}>Run <kbd>Ctrl ↵</kbd><//>`}
      </div>
      ${!mayRun && html`<p class="hint">This key may read, and not submit jobs.</p>`}
    </form>
    ${queuesOf(setups, session.models).map((queue) => html`<${QueueNotice} key=${queue} queue=${queue} isWaiting=${shown.some((run) => run.phase === "waiting")} />`)}
    <${Results} runs=${runs.map(([run]) => run)} now=${now} scale=${scale} />
  </div>`;

  function change(part) {
    setSettings((before) => ({ ...before, ...part }));
  }

  function changeSetup(place, setup) {
    setSettings((before) => ({ ...before, setups: before.setups.map((each, other) => (other === place ? setup : each)) }));
  }

  function submit(event) {
    event.preventDefault();
    if (isRunning || !mayRun || !settings.prompt.trim()) return;
    sessionStorage.setItem(ITEM, JSON.stringify(settings));
    runs.forEach(([, start, , clear], place) => (setups[place] ? start(toRequest(settings.prompt, setups[place], session.models, catalog)) : clear()));
  }

  function stop() {
    runs.forEach(([run, , end]) => isOpen(run) && end());
  }

  function onKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  }
}

function Opening() {
  return html`<header class="opening">
    <h1>A small model writes. A large model checks every step.</h1>
    <p>The <span class="name draft">draft</span> proposes steps, a reward model rates them, and the <span class="name target">target</span> says how likely it would
      have written them. A step that fails is <del>crossed out</del>, and the target writes it. Run a question, and watch.</p>
  </header>`;
}

function Results({ runs, now, scale }) {
  const place = useRef(null);
  const isShown = runs.some((run) => run.phase !== "idle");
  const isNew = runs.some((run) => run.phase === "waiting" && !run.id);
  useEffect(() => isNew && bringIntoView(place.current), [isNew]);
  const shown = runs.map((run, side) => ({ run, title: titleOf(run, runs), side })).filter(({ run }) => run.phase !== "idle");
  if (!isShown) return null;
  return html`<div class="results" ref=${place}>
    ${shown.length === 2 && html`<${Verdict} first=${shown[0]} second=${shown[1]} />`}
    <div class=${`panes ${shown.length > 1 ? "two" : ""}`}>
      ${shown.map(({ run, title, side }) => html`<${Pane} key=${side} id=${`pane-${side}`} title=${title} run=${run} now=${now} scale=${scale}
        expected=${answerTo(run.request.prompt)} />`)}
    </div>
  </div>`;
}

/** Scrolls to an element whose greater part is out of view. */
function bringIntoView(element) {
  if (!element || element.getBoundingClientRect().top < innerHeight / 2) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}

/** The model's name, with its changed parameters where both sides ask the same model. */
function titleOf(run, runs) {
  const request = run.request;
  if (!request) return "";
  const isTwice = runs.filter((each) => each.request?.model === request.model).length > 1;
  const changed = Object.entries(request.params).map(([name, value]) => `${name} ${value}`);
  return isTwice && changed.length ? `${request.model}, ${changed.join(", ")}` : request.model;
}

/** Says why jobs would wait: the queue is paused, or no coordinator reads it. */
function QueueNotice({ queue, isWaiting }) {
  const found = useLoaded((signal) => get("/gsi/v1/queue", { queue }, signal), [queue, isWaiting], isWaiting ? QUICK_MS : SLOW_MS);
  if (found.error && isWaiting) return html`<${ErrorBox} error=${found.error} />`;
  if (!found.value) return null;
  const { is_paused: isPaused, coordinators } = found.value;
  if (isPaused) return html`<p class="notice" role="status">The queue <bdi>${queue}</bdi> is paused. Jobs wait until it is resumed.</p>`;
  if (!coordinators.length) return html`<p class="notice" role="status">No coordinator reads the queue <bdi>${queue}</bdi>. Jobs wait until one starts.</p>`;
  return null;
}

function queuesOf(setups, models) {
  return [...new Set(setups.map((setup) => models.find((each) => each.id === setup.model)?.queue).filter(Boolean))];
}

/** The settings of the last run, without what this key may not ask; at first an example, and GSI against the target alone. */
function recall(models) {
  const names = models.map((each) => each.id);
  const fresh = (name) => ({ model: name, method: "", params: {} });
  const second = names.includes("gsi:target") ? "gsi:target" : names.at(-1);
  const first = { ...fresh(names[0]), params: { n: FIRST_N } };
  const usual = { prompt: EXAMPLES[0].prompt, isComparing: names.length > 1, setups: [first, fresh(second)] };
  try {
    const kept = JSON.parse(sessionStorage.getItem(ITEM)) ?? {};
    const setups = usual.setups.map((each, place) => (names.includes(kept.setups?.[place]?.model) ? { ...each, ...kept.setups[place] } : each));
    return { prompt: kept.prompt ?? usual.prompt, isComparing: kept.isComparing ?? usual.isComparing, setups };
  } catch {
    return usual;
  }
}
