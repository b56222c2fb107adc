/**
 * The views, each loaded when it is opened. A view's module has a default export, a component of `{route, session}`.
 * `route.params` has the named groups of `pattern`. A view with a `label` is in the navigation; another
 * has a `title`. Its `styles` hold while the view is open, so that two views may use the same class for different things.
 */
export const ROUTES = [
  { name: "playground", label: "Playground", pattern: /^\/$/, styles: ["playground.css"], load: () => import("./playground.js") },
  { name: "jobs", label: "Jobs", pattern: /^\/jobs$/, styles: ["jobs.css"], load: () => import("./jobs.js") },
  { name: "trace", title: "Job", pattern: /^\/jobs\/(?<id>[^/]+)(?:\/step\/(?<step>\d+))?$/, styles: ["trace.css"], load: () => import("./trace.js") },
  { name: "queue", label: "Queue", pattern: /^\/queue$/, styles: ["jobs.css", "queue.css"], load: () => import("./queue.js") },
  { name: "evaluations", label: "Evaluations", pattern: /^\/evaluations$/, styles: ["evaluations.css"], load: () => import("./evaluations.js") },
  { name: "evaluation", title: "Evaluation", pattern: /^\/evaluations\/(?<name>[^/]+)$/, styles: ["evaluations.css"], load: () => import("./evaluation.js") },
];

/**
 * Returns the route of a hash such as `#/jobs?state=DEAD`: `{name, path, styles, params, query, load}`; null if no view has it. `query` is a
 * URLSearchParams, of what stands behind "?".
 * @param {string} hash
 */
export function findRoute(hash) {
  const [, path, query] = /^([^?]*)\??(.*)$/s.exec(hash.replace(/^#/, "") || "/");
  for (const { name, pattern, styles, load } of ROUTES) {
    const found = pattern.exec(path);
    if (found) return { name, path, styles, params: decode(found.groups ?? {}), query: new URLSearchParams(query), load };
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
