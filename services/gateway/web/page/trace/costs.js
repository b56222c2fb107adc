/** What a step or a job cost: seconds by phase and tokens by role, from the step records. */

/** The phases, in the order in which a step has them, each with its words. */
export const PHASES = {
  draft: "draft writes",
  scoring: "target and PRM score",
  target: "target scores",
  prm: "PRM scores",
  resample: "target writes",
  rating: "PRM scores the target's",
  unknown: "models (phases were not kept)",
};

/**
 * Return a step's seconds by phase, which add up to its `seconds`. Scoring begins while a model still writes; a phase
 * of scoring is the wait that is left after the writing: for both scorers, then for the one that ends last.
 */
export function phases(step) {
  if (!step.proposals?.length) return { unknown: step.seconds };
  const seconds = {};
  for (const proposal of longest(step.proposals)) {
    for (const [phase, wait] of Object.entries(phasesOf(proposal)))
      if (wait > 0) seconds[phase] = (seconds[phase] ?? 0) + wait;
  }
  return seconds;
}

/** Return the seconds by phase of all steps together. */
export function sumPhases(steps) {
  const sum = {};
  for (const step of steps)
    for (const [phase, seconds] of Object.entries(phases(step))) sum[phase] = (sum[phase] ?? 0) + seconds;
  return sum;
}

/** Trajectories grow at once, and the proposals of one in turn: return those that took longest. */
function longest(proposals) {
  const groups = new Map();
  for (const each of proposals) groups.set(each.parent ?? 0, [...(groups.get(each.parent ?? 0) ?? []), each]);
  const total = (group) => group.reduce((sum, each) => sum + Math.max(...Object.values(each.seconds)), 0);
  return [...groups.values()].reduce((most, group) => (total(group) > total(most) ? group : most));
}

function phasesOf({ source, seconds }) {
  const { propose = 0, target, prm } = seconds;
  if (source === "target") return { resample: propose, rating: (prm ?? propose) - propose };
  const ends = [target, prm].filter((end) => end !== undefined && end > propose);
  const both = ends.length === 2 ? Math.min(...ends) - propose : 0;
  const last = ends.length ? Math.max(...ends) - propose - both : 0;
  const isTargetLast = target !== undefined && target === Math.max(target, prm ?? 0);
  return { draft: propose, scoring: both, [isTargetLast ? "target" : "prm"]: last };
}

/** Return the tokens that each model wrote, discarded candidates included, and those of the answer by its writer. */
export function tokens(steps) {
  const sum = { draft: 0, target: 0, keptDraft: 0, keptTarget: 0 };
  for (const step of steps) {
    sum.draft += step.draft_tokens;
    sum.target += step.target_tokens;
    for (const kept of keptSteps(step)) sum[kept.source === "draft" ? "keptDraft" : "keptTarget"] += kept.token_ids.length;
  }
  return sum;
}

function keptSteps(step) {
  return step.branches?.length ? step.branches.flatMap((branch) => branch.step ?? []) : [step];
}

/** Return the share of accepted steps; null before the first. */
export function acceptance(steps) {
  return steps.length ? steps.filter((step) => step.outcome === "accepted").length / steps.length : null;
}
