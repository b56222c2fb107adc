/** The gateway's API: requests with the key, errors with their field, and streams of events that come back. */

const BASE = new URL("../", import.meta.url);
const KEY_ITEM = "gsi-key";
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const PASSING = "redis_unavailable"; // the code of an error that passes by itself

const listeners = new Set();

/** A refusal. `status` 0: the gateway did not answer. `param` names the field at fault, `code` is for programs. */
export class ApiError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

/** Returns the key of this tab; null if there is none. */
export function getKey() {
  return sessionStorage.getItem(KEY_ITEM);
}

/** Keeps a key for this tab, or forgets it (null). */
export function setKey(key) {
  if (key) sessionStorage.setItem(KEY_ITEM, key);
  else sessionStorage.removeItem(KEY_ITEM);
}

/** Calls `listener(path)` whenever the gateway refuses a request for its key; returns a function that ends that. */
export function onKeyNeeded(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Sends a request and returns the answer's JSON. Throws ApiError, or the AbortError of `signal`.
 * @param {string} path such as "/gsi/v1/jobs"
 * @param {{method?: string, body?: object, query?: object, signal?: AbortSignal}} options
 */
export async function request(path, options = {}) {
  const answer = await send(path, options);
  return answer.status === 204 ? null : answer.json();
}

/** Shorthands of `request`. */
export const get = (path, query, signal) => request(path, { query, signal });
export const post = (path, body = {}, signal) => request(path, { method: "POST", body, signal });

/** Returns an image of the API as a data URL, since an <img> cannot send the key. Throws as `request` does. */
export async function getImage(path, signal) {
  const image = await (await send(path, { signal, accept: "image/png" })).blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new ApiError(0, { message: "The image cannot be read." }));
    reader.readAsDataURL(image);
  });
}

async function send(path, { method = "GET", body, query = {}, signal, accept = "application/json" }) {
  const url = new URL(path.replace(/^\//, ""), BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = { Accept: accept };
  const key = getKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await reach(url, { method, headers, signal, body: body && JSON.stringify(body), cache: path.startsWith("/page/") ? "no-cache" : "no-store" });
  if (answer.ok) return answer;
  if (answer.status === 401) listeners.forEach((listener) => listener(path));
  throw await refusal(answer);
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The gateway does not answer." });
  }
}

async function refusal(answer) {
  try {
    return new ApiError(answer.status, (await answer.json()).error);
  } catch {
    return new ApiError(answer.status, { message: `The gateway answered ${answer.status} ${answer.statusText}.` });
  }
}

/**
 * Reads a stream of server-sent events until an event `end`, or until `signal` aborts. A stream that breaks off is opened again
 * after the last event's id. Throws ApiError for a refusal (4xx), and for an event `error` that does not pass.
 * @param {string} path
 * @param {{onEvent: (event: {event: string, id: string, data: any}) => void, signal?: AbortSignal, after?: number|string,
 *   onConnection?: (isOpen: boolean) => void}} options
 */
export async function events(path, { onEvent, signal, after = -1, onConnection = () => {} }) {
  let last = after;
  let pause = FIRST_PAUSE_MS;
  while (!signal?.aborted) {
    try {
      const answer = await send(path, { query: { after: last }, signal, accept: "text/event-stream" });
      onConnection(true);
      for await (const event of parse(answer.body)) {
        pause = FIRST_PAUSE_MS;
        if (event.event === "error") throw new ApiError(event.data.error.code === PASSING ? 503 : 400, event.data.error);
        if (event.id !== "") last = event.id;
        onEvent(event);
        if (event.event === "end") return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
      if (!(error instanceof ApiError) && !(error instanceof TypeError)) throw error; // a fault of the listener's
    }
    onConnection(false);
    await wait(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

/** Yields the events of a body: `{event, id, data}`, where `data` is parsed JSON. Comments are left out. */
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  const found = { event: "message", id: "", data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([a-z]+): ?(.*)$/s.exec(line) ?? [];
    if (name === "data") found.data.push(value);
    else if (name === "event" || name === "id") found[name] = value;
  }
  return found.data.length ? { ...found, data: JSON.parse(found.data.join("\n")) } : null;
}

/** Returns after some milliseconds, or as soon as `signal` aborts. */
export function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
