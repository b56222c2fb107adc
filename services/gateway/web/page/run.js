/** A job from its submission to its end, followed step by step. */

import { useEffect, useReducer, useRef } from "./vendor/htm/standalone.module.js";
import { ApiError, events, post } from "./api.js";

const IDLE = { phase: "idle", request: null, id: null, isResumed: false, steps: [], job: null, error: null, startedAt: null, endedAt: null, isConnected: true };

function reduce(run, action) {
  switch (action.type) {
    case "submit":
      return { ...IDLE, phase: "waiting", request: action.request, isResumed: action.isResumed };
    case "accepted":
      return { ...run, id: action.id };
    case "state":
      return action.state === "RUNNING" && run.phase === "waiting" ? { ...run, phase: "running", startedAt: action.at } : run;
    case "step":
      return { ...run, phase: "running", startedAt: run.startedAt ?? action.at, steps: [...run.steps, action.step] };
    case "end":
      return { ...run, phase: "ended", job: action.job, steps: action.steps ?? run.steps, startedAt: run.startedAt ?? action.at, endedAt: action.at };
    case "refused":
      return { ...run, phase: "ended", error: action.error, endedAt: action.at };
    case "connection":
      return { ...run, isConnected: action.isOpen };
    case "clear":
      return IDLE;
    default:
      return run;
  }
}

/**
 * Returns `{run, start, stop, clear}`. A run's `phase` is "idle", "waiting", "running" or "ended"; `steps` are the kept steps so far,
 * `job` the job once it has ended, `error` the refusal. Times are in milliseconds by the browser's clock. The last run is kept in
 * the tab under `name`, and followed again after a reload.
 * @param {string} name
 */
export function useRun(name) {
  const [run, dispatch] = useReducer(reduce, IDLE);
  const current = useRef(null);
  const item = `gsi-run-${name}`;
  useEffect(() => {
    resume();
    return () => current.current?.abort.abort();
  }, []);

  function begin(request, isResumed) {
    current.current?.abort.abort();
    const own = { abort: new AbortController(), id: null, isStopped: false, tell: (action) => own === current.current && dispatch({ ...action, at: performance.now() }) };
    current.current = own;
    own.tell({ type: "submit", request, isResumed });
    return own;
  }

  async function follow(own, id) {
    own.id = id;
    own.tell({ type: "accepted", id });
    if (own.isStopped) await cancel(id);
    await events(`/gsi/v1/jobs/${encodeURIComponent(id)}/events`, {
      signal: own.abort.signal,
      onEvent: ({ event, data }) => own.tell(actionOf(event, data)),
      onConnection: (isOpen) => own.tell({ type: "connection", isOpen }),
    });
  }

  /** Submits a job, and follows it until it has ended. `request`: the body of POST /gsi/v1/jobs. */
  async function start(request) {
    sessionStorage.removeItem(item);
    const own = begin(request, false);
    await told(own, async () => {
      const { id } = await post("/gsi/v1/jobs", request);
      sessionStorage.setItem(item, JSON.stringify({ request, id }));
      await follow(own, id);
    });
  }

  /** Follows the last run of the tab again, if its job is still there. */
  async function resume() {
    const { request, id } = JSON.parse(sessionStorage.getItem(item)) ?? {};
    if (!id) return;
    const own = begin(request, true);
    await told(own, () => follow(own, id), [401, 404]);
    if (!own.hasFailed) return;
    sessionStorage.removeItem(item);
    own.tell({ type: "clear" });
  }

  /** Cancels the job, whose end is then told as any other. */
  async function stop() {
    const own = current.current;
    if (!own) return;
    own.isStopped = true;
    if (own.id) await cancel(own.id);
  }

  /** Forgets the run; its job goes on. */
  function clear() {
    sessionStorage.removeItem(item);
    current.current?.abort.abort();
    current.current = null;
    dispatch({ type: "clear" });
  }

  return { run, start, stop, clear };
}

/** Does the work of a run; a refusal is told, but for those with one of the statuses in `quiet`, which are noted alone. */
async function told(own, work, quiet = []) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (quiet.includes(error.status)) own.hasFailed = true;
    else own.tell({ type: "refused", error });
  }
}

function actionOf(event, data) {
  if (event === "step") return { type: "step", step: data };
  if (event === "state") return { type: "state", state: data.state };
  if (event === "end") return { type: "end", ...data };
  return { type: event };
}

/** A job that has ended meanwhile is no fault. */
async function cancel(id) {
  try {
    await post(`/gsi/v1/jobs/${encodeURIComponent(id)}/cancel`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
  }
}

/** Whether the run's answer is on its way. */
export const isOpen = (run) => run.phase === "waiting" || run.phase === "running";

/** Whether the run has ended with an answer. */
export const hasSucceeded = (run) => run.job?.state === "SUCCEEDED";

/**
 * Returns a run's seconds: the job's own, from its start to its end, or those since its first sign of life. null: not begun, or
 * followed again, when nobody here saw it begin.
 */
export function secondsOf(run, now) {
  const told = run.job?.seconds?.running;
  if (typeof told === "number") return told;
  if (run.startedAt === null || run.isResumed) return null;
  return Math.max(0, ((run.endedAt ?? now) - run.startedAt) / 1000);
}

/** Returns the tokens by role: those that draft and target wrote, discarded ones included, and once it is told, the PRM's. */
export function tokensOf(run) {
  const sum = (name) => run.steps.reduce((total, step) => total + (step[name] ?? 0), 0);
  return { draft: sum("draft_tokens"), target: sum("target_tokens"), prm: run.job?.usage?.prm_tokens ?? null };
}

/** Returns the models that wrote the kept steps, in order; a round of several trajectories counts as none. */
export function sourcesOf(run) {
  return run.steps.map((step) => (step.branches?.length ? "several" : step.source));
}
