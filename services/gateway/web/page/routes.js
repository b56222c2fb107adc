/**
 * The views, each loaded when it is opened. A view's module has a default export, a component of `{route, session}`.
 * `route.params` has the named groups of `pattern`. A view with a `label` is in the navigation.
 */
export const ROUTES = [
  { name: "playground", label: "Playground", pattern: /^\/$/, load: () => import("./playground.js") },
];

/**
 * Returns the route of a hash such as `#/jobs/ID`: `{name, path, params, load}`; null if no view has it.
 * @param {string} hash
 */
export function findRoute(hash) {
  const path = hash.replace(/^#/, "") || "/";
  for (const { name, pattern, load } of ROUTES) {
    const found = pattern.exec(path);
    if (found) return { name, path, params: decode(found.groups ?? {}), load };
  }
  return null;
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
