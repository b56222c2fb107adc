/** The trace of a job, live and later: the answer step by step, what stood behind each step, and what it cost. */

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/htm/standalone.module.js";
import { ErrorBox, Loading } from "./ui.js";
import { Text } from "./text.js";
import { PhaseBar, Tokens } from "./trace/bars.js";
import { acceptance, sumPhases, tokens } from "./trace/costs.js";
import { Head } from "./trace/head.js";
import { isFinal, useTrace } from "./trace/live.js";
import { isSearch } from "./trace/methods.js";
import { canReject } from "./trace/selection.js";
import { Steps, Strip } from "./trace/steps.js";
import { chosenLeaf, grow, path } from "./trace/trajectories.js";
import { Tree } from "./trace/tree.js";

const NEAR_END = 48; // pixels from the end of the page at which a reader follows what comes

export default function Trace({ route, session }) {
  const { id, step } = route.params;
  return html`<${TraceOf} id=${id} linked=${step ? Number(step) : null} session=${session} key=${id} />`;
}

function TraceOf({ id, linked, session }) {
  const { job, steps, error, isConnected, reload } = useTrace(id);
  const params = useMemo(() => withDefaults(job?.params), [JSON.stringify(job?.params)]);
  const shown = useMemo(() => shownSteps(steps, params, job), [steps, params, job?.text]);
  const [open, setOpen] = useState(new Set());
  useStayAtEnd(steps.length, job !== null && !isFinal(job.state));
  useLinkedStep(linked, shown.steps.length, setOpen);
  if (!job) return error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : html`<${Loading} what="Reading the job" />`;
  const onToggle = (number) => setOpen((before) => toggled(before, number));
  const linkTo = (number) => new URL(`#/jobs/${encodeURIComponent(id)}/step/${number}`, location.href).href;
  const onGo = (number) => {
    setOpen((before) => new Set([...before, number]));
    requestAnimationFrame(() => goTo(number));
  };
  return html`<article class="trace">
    <${Head} job=${job} id=${id} steps=${steps} params=${params} session=${session} onChange=${reload} shown=${shown} />
    ${error && html`<${ErrorBox} error=${error} onRetry=${reload} />`}
    ${!isConnected && html`<p class="notice" role="status">The connection was lost. Connecting again…</p>`}
    <${Prompt} job=${job} />
    <${Answer} shown=${shown.steps} isSearch=${isSearch(params)} isLive=${!isFinal(job.state)} params=${params} open=${open} onToggle=${onToggle} linkTo=${linkTo} onGo=${onGo} />
    ${isSearch(params) && steps.length > 0 && html`<${Tree} steps=${steps} params=${params} tree=${shown.tree} chosen=${shown.chosen} />`}
    ${steps.length > 0 && html`<${Costs} steps=${steps} params=${params} />`}
    <${Announcer} steps=${shown.steps} state=${job.state} />
  </article>`;
}

/** Parameters that were not said have the defaults of docs/job.schema.json. A job that has ended says all of them. */
function withDefaults(params) {
  const defaults = { method: "gsi", n: 16, beta: 20, acceptance_threshold: 0.5, preset: "paper", aggregate: "last", scope: "steps", router_threshold: 0.5 };
  const [method] = (params?.method ?? defaults.method).split(":"); // what follows is the shorthand for other parameters
  return { ...defaults, weighting: { name: "binary", delta: 0.7 }, ...params, method };
}

/** Return the steps that are the answer: of a search, those of the chosen trajectory, or while it runs of the leading one. */
function shownSteps(steps, params, job) {
  if (!isSearch(params)) return { steps: steps.map((step) => ({ step, record: step, parent: null })), tree: null, chosen: null };
  const tree = grow(steps);
  const chosen = isFinal(job?.state) ? chosenLeaf(tree.leaves, job.text) : null;
  const leaf = chosen ?? tree.leaves.find(Boolean) ?? null;
  const nodes = leaf ? path(leaf) : [];
  const parentOf = (node) => parentPlace(steps[node.round], node);
  return { steps: nodes.map((node) => ({ step: node.step, record: steps[node.round], parent: parentOf(node) })), tree, chosen };
}

/** Return the place under which a round's proposals name the trajectory of this node. Equal responses share a proposal. */
function parentPlace(record, node) {
  const own = record.branches?.[node.place]?.parent ?? 0;
  const ids = node.step.token_ids.join(",");
  const has = (proposal) => proposal.candidates.some((candidate) => candidate.token_ids.join(",") === ids);
  const proposals = record.proposals ?? [];
  return (proposals.find((each) => (each.parent ?? 0) === own) ?? proposals.find(has))?.parent ?? own;
}

function toggled(before, number) {
  const open = new Set(before);
  if (!open.delete(number)) open.add(number);
  return open;
}

/** A reader at the end of the page stays at the end when a step comes; others stay where they are. */
function useStayAtEnd(numSteps, isLive) {
  const isAtEnd = useRef(false);
  useEffect(() => {
    const look = () => {
      isAtEnd.current = innerHeight + scrollY >= document.documentElement.scrollHeight - NEAR_END && scrollY > 0;
    };
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);
  useLayoutEffect(() => {
    if (isLive && isAtEnd.current) scrollTo(0, document.documentElement.scrollHeight);
  }, [numSteps]);
}

/** Open the step that the address names as soon as it is there, and go to it once. */
function useLinkedStep(linked, numSteps, setOpen) {
  const isThere = linked !== null && linked >= 1 && numSteps >= linked;
  useEffect(() => {
    if (!isThere) return;
    setOpen((before) => new Set([...before, linked]));
    requestAnimationFrame(() => goTo(linked));
  }, [linked, isThere]);
}

function goTo(number) {
  const step = document.getElementById(`step-${number}`);
  step?.scrollIntoView({ block: "start" });
  step?.querySelector(".step-head").focus({ preventScroll: true });
}

function Prompt({ job }) {
  const asked = job.prompt ? [{ role: "user", content: job.prompt }] : [];
  const turns = job.messages ?? [...(job.system ? [{ role: "system", content: job.system }] : []), ...asked];
  return html`<section class="prompt" aria-labelledby="prompt-title">
    <h2 id="prompt-title">Prompt</h2>
    ${turns.length === 0 && html`<p class="hint">The prompt was too long to be kept after the job's end.</p>`}
    ${turns.map(({ role, content }) => html`<div class="turn">${turns.length > 1 && html`<p class="role">${role}</p>`}<${Text} text=${content} /></div>`)}
  </section>`;
}

function Answer({ shown, isSearch: isOfSearch, isLive, onGo, ...others }) {
  const hasRejected = shown.some(({ step }) => step.rejected);
  return html`<section class="answer" aria-labelledby="answer-title">
    <div class="answer-head">
      <h2 id="answer-title">${isOfSearch && isLive ? "The leading trajectory" : "Answer"}</h2>
      <p class="legend"><span class="key draft">the draft wrote it</span> <span class="key target">the target wrote it</span>${hasRejected && html` <del>rejected</del>`}</p>
    </div>
    ${shown.length > 1 && html`<${Strip} shown=${shown} onGo=${onGo} />`}
    ${shown.length === 0 && html`<p class="hint">${isLive ? "No step has been kept yet." : "No step was kept."}</p>`}
    <${Steps} shown=${shown} ...${others} />
    ${isLive && html`<p class="writing"><span class="pulse" aria-hidden="true"></span>The models are at work.</p>`}
  </section>`;
}

function Costs({ steps, params }) {
  const accepted = canReject(params) ? `; ${Math.round(100 * acceptance(steps))} % of the steps were accepted` : "";
  return html`<section class="costs-of-job" aria-labelledby="costs-title">
    <h2 id="costs-title">What it cost</h2>
    <div class="costs">
      <${PhaseBar} seconds=${sumPhases(steps)} label="Seconds of all steps" />
      <${Tokens} tokens=${tokens(steps)} label=${`Tokens${accepted}`} />
    </div>
  </section>`;
}

/** Says politely to a screen reader what has come. */
function Announcer({ steps, state }) {
  const last = steps.at(-1)?.step;
  const text = last && `Step ${last.index + 1} was written by the ${last.source}${last.rejected ? ", after the draft's step was rejected" : ""}.`;
  return html`<p class="visually-hidden" aria-live="polite">${isFinal(state) ? `The job is ${state.toLowerCase()}.` : text}</p>`;
}
