/**
 * The views, each loaded when it is opened. A view's module has a default export, a component of `{route, session}`.
 * `route.params` has the named groups of `pattern`. A view with a `label` is in the navigation; another
 * has a `title`.
 */
export const ROUTES = [
  { name: "playground", label: "Playground", pattern: /^\/$/, load: () => import("./playground.js") },
  { name: "jobs", label: "Jobs", pattern: /^\/jobs$/, load: () => import("./jobs.js") },
  { name: "trace", title: "Job", pattern: /^\/jobs\/(?<id>[^/]+)(?:\/step\/(?<step>\d+))?$/, load: () => import("./trace.js") },
  { name: "queue", label: "Queue", pattern: /^\/queue$/, load: () => import("./queue.js") },
  { name: "evaluations", label: "Evaluations", pattern: /^\/evaluations$/, load: () => import("./evaluations.js") },
  { name: "evaluation", title: "Evaluation", pattern: /^\/evaluations\/(?<name>[^/]+)$/, load: () => import("./evaluation.js") },
];

/**
 * Returns the route of a hash such as `#/jobs?state=DEAD`: `{name, path, params, query, load}`; null if no view has it. `query` is a
 * URLSearchParams, of what stands behind "?".
 * @param {string} hash
 */
export function findRoute(hash) {
  const [, path, query] = /^([^?]*)\??(.*)$/s.exec(hash.replace(/^#/, "") || "/");
  for (const { name, pattern, load } of ROUTES) {
    const found = pattern.exec(path);
    if (found) return { name, path, params: decode(found.groups ?? {}), query: new URLSearchParams(query), load };
  }
  return null;
}

/**
 * Changes the query of the address without a new entry in the history, so that a view's filters can be shared and kept.
 * @param {object} changes name -> text; an empty text takes the name away
 */
export function changeQuery(changes) {
  const [, path, given] = /^([^?]*)\??(.*)$/s.exec(location.hash);
  const query = new URLSearchParams(given);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  location.replace(text ? `${path}?${text}` : path);
}

function decode(groups) {
  return Object.fromEntries(Object.entries(groups).map(([name, text]) => [name, text && decodeText(text)]));
}

function decodeText(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
