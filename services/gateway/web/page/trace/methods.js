/** What the gateway says of each method (`gsi/algorithm/method.py`, `Method`): read once, before a trace is shown. */

import { get } from "../api.js";

const METHODS = new Map((await get("/page/methods.json")).methods.map((method) => [method.name, method]));
/** A method that only a newer release knows: what holds for most. */
const UNKNOWN = { parameters: ["n", "beta"], can_reject: false, draws_tilted: false, search_scopes: [] };

/** Return what is known of the method of a job. */
export function methodOf(params) {
  return METHODS.get(params.method) ?? UNKNOWN;
}

/** Return whether the job's method reads the parameter `name`. */
export function reads(params, name) {
  return methodOf(params).parameters.includes(name);
}

/** Return whether a job of these parameters keeps several trajectories. */
export function isSearch(params) {
  return methodOf(params).search_scopes.includes(params.scope ?? "steps");
}
