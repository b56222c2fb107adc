/** Small parts that all views share. Text is always a text node; styles are classes or set through the CSSOM. */

import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { ApiError } from "./api.js";

/** A button. `kind`: "plain", "primary", "quiet" or "danger". */
export function Button({ kind = "plain", children, ...rest }) {
  return html`<button type="button" class=${`button ${kind}`} ...${rest}>${children}</button>`;
}

/** A labelled field: `children` is its input, whose id is `id`. The error stands under it and is read out with it. */
export function Field({ id, label, hint, error, children }) {
  return html`<div class=${error ? "field has-error" : "field"}>
    <label for=${id}>${label}</label>
    ${children}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${error && html`<p class="field-error" id=${`${id}-error`} role="alert">${error}</p>`}
  </div>`;
}

/** Returns the attributes by which an input names its hint and its error. */
export function describedBy(id, { hint, error }) {
  const ids = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return { "aria-describedby": ids || undefined, "aria-invalid": error ? "true" : undefined };
}

/**
 * A table that scrolls within itself where it is too wide.
 * `columns`: `[{key, label, render?: (row) => any, isNumber?: boolean}]`; `rowKey`: (row) => its id.
 */
export function Table({ caption, columns, rows, rowKey }) {
  return html`<div class="table-scroll" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="visually-hidden">${caption}</caption>
      <thead><tr>${columns.map((each) => html`<th scope="col" class=${each.isNumber ? "number" : ""}>${each.label}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr key=${rowKey(row)}>
            ${columns.map((each) => html`<td class=${each.isNumber ? "number" : ""}>${each.render ? each.render(row) : row[each.key]}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** A word in a coloured box. `kind`: "neutral", "good", "bad", "warn", "busy", "draft" or "target". */
export function Badge({ kind = "neutral", children }) {
  return html`<span class=${`badge ${kind}`}>${children}</span>`;
}

const STATES = { QUEUED: "neutral", RUNNING: "busy", SUCCEEDED: "good", CANCELLED: "warn", EXPIRED: "warn", FAILED: "bad", DEAD: "bad" };

/** The state of a job. */
export function State({ state }) {
  return html`<${Badge} kind=${STATES[state] ?? "neutral"}>${String(state).toLowerCase()}<//>`;
}

/** The model that wrote a step: "draft" or "target". */
export function Source({ source }) {
  return html`<${Badge} kind=${source}>${source}<//>`;
}

/** What stands where there is nothing to show. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** An error, and a button that tries again if `onRetry` is given. */
export function ErrorBox({ error, onRetry }) {
  if (!error) return null;
  return html`<div class="error-box" role="alert">
    <p>${error.message}</p>
    ${onRetry && html`<${Button} onClick=${onRetry}>Try again<//>`}
  </div>`;
}

/** Says that something is on its way; not in the first moment, so that quick answers do not flicker. */
export function Loading({ what = "Loading" }) {
  return html`<p class="loading" role="status">${what}…</p>`;
}

/** Seconds as a person reads them: `0.42 s`, `12.3 s`, `3 min 20 s`, `5 h 12 min`. */
export function formatSeconds(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** A length of time, in seconds. */
export function Duration({ seconds }) {
  return html`<span class="number">${formatSeconds(seconds)}</span>`;
}

/** How long ago a time was, which goes on by itself. `at`: seconds since 1970, or a text that Date reads. */
export function Ago({ at }) {
  const now = useNow(1000);
  if (!at) return "–";
  const time = new Date(typeof at === "number" ? at * 1000 : at);
  const seconds = Math.max(0, (now - time) / 1000);
  const text = seconds < 2 ? "just now" : `${formatSeconds(Math.floor(seconds)).replace(/\.0+ s/, " s")} ago`;
  return html`<time datetime=${time.toISOString()} title=${time.toLocaleString()}>${text}</time>`;
}

/** A number with thin spaces between thousands; "–" for none. */
export function formatNumber(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(Number(value))) return "–";
  return Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replaceAll(",", "\u202f");
}

/** A share such as 0.734 as `73 %`. */
export function formatShare(value) {
  return value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`;
}

/** Returns the time in milliseconds, anew every `every` milliseconds while `isOn`. */
export function useNow(every, isOn = true) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!isOn) return undefined;
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every, isOn]);
  return now;
}

/**
 * Returns `{value, error, isLoading, reload}` of what `load(signal)` promises; it is loaded again when `inputs` change, and every
 * `every` milliseconds if given, while the page is in view. The last value stays while a later one is on its way or fails.
 */
export function useLoaded(load, inputs, every = 0) {
  const [state, setState] = useState({ value: null, error: null, isLoading: true });
  const [count, setCount] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    async function run() {
      try {
        const value = await latest.current(abort.signal);
        if (!abort.signal.aborted) setState({ value, error: null, isLoading: false });
      } catch (error) {
        if (abort.signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        setState((before) => ({ value: before.value, error, isLoading: false }));
      }
      if (every && !abort.signal.aborted) timer = setTimeout(next, every);
    }
    function next() {
      if (document.hidden) timer = setTimeout(next, every);
      else run();
    }
    run();
    return () => (abort.abort(), clearTimeout(timer));
  }, [...inputs, count, every]);
  return { ...state, reload: () => setCount((before) => before + 1) };
}
