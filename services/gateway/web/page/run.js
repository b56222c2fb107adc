/** A job from its submission to its end, followed step by step. */

import { useEffect, useReducer, useRef } from "./vendor/htm/standalone.module.js";
import { ApiError, events, post } from "./api.js";

const IDLE = { phase: "idle", request: null, id: null, steps: [], job: null, error: null, startedAt: null, endedAt: null, isConnected: true };

function reduce(run, action) {
  switch (action.type) {
    case "submit":
      return { ...IDLE, phase: "waiting", request: action.request };
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
 * Returns `[run, start, stop, clear]`. A run's `phase` is "idle", "waiting", "running" or "ended"; `steps` are the kept steps so far, `job`
 * the job once it has ended, `error` the refusal. Times are in milliseconds by the browser's clock.
 */
export function useRun() {
  const [run, dispatch] = useReducer(reduce, IDLE);
  const current = useRef(null);
  useEffect(() => () => current.current?.abort.abort(), []);
  const tell = (action) => dispatch({ ...action, at: performance.now() });

  /** Submits a job, and follows it until it has ended. `request`: the body of POST /gsi/v1/jobs. */
  async function start(request) {
    current.current?.abort.abort();
    const own = { abort: new AbortController(), id: null, isStopped: false };
    current.current = own;
    const tellOwn = (action) => own === current.current && tell(action);
    tellOwn({ type: "submit", request });
    try {
      const { id } = await post("/gsi/v1/jobs", request);
      own.id = id;
      tellOwn({ type: "accepted", id });
      if (own.isStopped) await cancel(id);
      await events(`/gsi/v1/jobs/${encodeURIComponent(id)}/events`, {
        signal: own.abort.signal,
        onEvent: ({ event, data }) => tellOwn(actionOf(event, data)),
        onConnection: (isOpen) => tellOwn({ type: "connection", isOpen }),
      });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      tellOwn({ type: "refused", error });
    }
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
    current.current?.abort.abort();
    current.current = null;
    dispatch({ type: "clear" });
  }

  return [run, start, stop, clear];
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
 * Returns a run's seconds: the job's own, from its start to its end, or those since its first sign of life. null: not begun.
 */
export function secondsOf(run, now) {
  const told = run.job?.seconds?.running;
  if (typeof told === "number") return told;
  if (run.startedAt === null) return null;
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
