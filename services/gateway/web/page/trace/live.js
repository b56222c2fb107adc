/** A job's trace as it grows: read once as a document, then step by step from the stream of events. */

import { useEffect, useState } from "../vendor/htm/standalone.module.js";
import { ApiError, events, get } from "../api.js";

const FINAL = new Set(["SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED", "DEAD"]);
const GATHER_MS = 30; // steps that come together are drawn together

/** Return whether a job in this state gets no more steps. */
export function isFinal(state) {
  return FINAL.has(state);
}

/** Return the steps with others added, in order, each index once: a stream that came back may repeat some. */
export function merge(steps, others) {
  const next = steps.length ? steps.at(-1).index + 1 : 0;
  if (others.every((step, i) => step.index === next + i)) return [...steps, ...others];
  const byIndex = new Map([...steps, ...others].map((step) => [step.index, step]));
  return [...byIndex.values()].sort((a, b) => a.index - b.index);
}

/** Return `{job, steps, error, isConnected, reload}` of a job, live until it has ended; job null until it is read. */
export function useTrace(id) {
  const [trace, setTrace] = useState({ job: null, steps: [], error: null, isConnected: true });
  const [count, setCount] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    const change = (update) => abort.signal.aborted || setTrace((before) => ({ ...before, ...update(before) }));
    follow(id, abort.signal, change).catch((error) => {
      if (abort.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      change(() => ({ error }));
    });
    return () => abort.abort();
  }, [id, count]);
  return { ...trace, reload: () => setCount((before) => before + 1) };
}

async function follow(id, signal, change) {
  const path = `/gsi/v1/jobs/${encodeURIComponent(id)}`;
  const { job, steps } = await get(path, {}, signal);
  change(() => ({ job, steps, error: null, isConnected: true }));
  if (isFinal(job.state)) return;
  const gathered = gather((together) => change((before) => ({ steps: merge(before.steps, together) })), signal);
  const onEvent = ({ event, data }) => {
    if (event === "step") gathered.add(data);
    if (event === "state") change((before) => ({ job: { ...before.job, ...data } }));
    if (event === "end") {
      gathered.flush();
      change((before) => ({ job: { ...before.job, ...(data.job ?? data) } }));
    }
  };
  const onConnection = (isConnected) => change(() => ({ isConnected }));
  await events(`${path}/events`, { onEvent, onConnection, signal, after: steps.at(-1)?.index ?? -1 });
}

function gather(show, signal) {
  let waiting = [];
  let timer = 0;
  const flush = () => {
    clearTimeout(timer);
    timer = 0;
    if (waiting.length) show(waiting);
    waiting = [];
  };
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  return {
    flush,
    add(step) {
      waiting.push(step);
      timer ||= setTimeout(flush, GATHER_MS);
    },
  };
}
