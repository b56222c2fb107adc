/**
 * The tree of the trajectories of a search, from its rounds: which trajectory came out of which, which of them live to
 * the last round, which candidates were cut at once, and, for a vote, how often each answer was given.
 */

import { read } from "./numbers.js";

/**
 * Return `{rounds, leaves}`. A round is its nodes in order of place, then its cut candidates; a node is
 * `{round, place, parent, step, id, isKept, isCut}`: `parent` is a node or null for the prompt, `isKept` whether a
 * trajectory of the last round continues it. A finished trajectory that is carried over has no node of its own.
 */
export function grow(steps) {
  let population = [];
  const idOf = numbering();
  const rounds = steps.map((record, round) => {
    const before = population;
    const nodes = [];
    population = branchesOf(record).map(({ parent, step }, place) => {
      const from = before[parent] ?? null;
      if (!step) return from;
      const node = { round, place, parent: from, step, id: idOf(from, step), isKept: false, isCut: false };
      nodes.push(node);
      return node;
    });
    return [...nodes, ...cutCandidates(record, round, before, idOf, new Set(nodes.map((node) => node.id)))];
  });
  for (const leaf of population) for (let node = leaf; node; node = node.parent) node.isKept = true;
  return { rounds, leaves: population };
}

function branchesOf(record) {
  return record.branches?.length ? record.branches : [{ parent: 0, step: record }];
}

/** Return what numbers trajectories by their tokens: equal ones, which share a proposal, have one number. */
function numbering() {
  const numbers = new Map();
  return (parent, { token_ids: ids }) => {
    const key = `${parent?.id ?? ""}/${ids.join(",")}`;
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key);
  };
}

/** Return the candidates of a round that no trajectory took, as nodes that are cut. */
function cutCandidates(record, round, before, idOf, taken) {
  return (record.proposals ?? []).flatMap(({ source, parent = 0, candidates }) => {
    const from = before[parent] ?? null;
    const nodes = candidates.map((candidate) => {
      const step = { ...candidate, source };
      return { round, place: null, parent: from, step, id: idOf(from, step), isKept: false, isCut: true };
    });
    return nodes.filter((node) => !taken.has(node.id));
  });
}

/** Return the nodes from the prompt to this one. */
export function path(node) {
  const nodes = [];
  for (let each = node; each; each = each.parent) nodes.unshift(each);
  return nodes;
}

/** Return the text of the trajectory that ends with this node. */
export function textOf(node) {
  return path(node).map((each) => each.step.text).join("");
}

/** Return a trajectory's score by the job's `aggregate`; minus infinity if a reward that counts is not a number. */
export function score(node, aggregate) {
  const rewards = path(node).map((each) => rankable(read(each.step.reward)));
  if (aggregate === "minimum") return Math.min(...rewards);
  if (aggregate === "product")
    return rewards.includes(-Infinity) ? -Infinity : rewards.reduce((product, reward) => product * reward, 1);
  return rewards.at(-1);
}

function rankable(reward) {
  return reward === null || Number.isNaN(reward) ? -Infinity : reward;
}

/** Return the leaf whose text is the job's; null while the job runs, or if none has that text. */
export function chosenLeaf(leaves, text) {
  if (!text) return null;
  const texts = leaves.map((leaf) => (leaf ? textOf(leaf) : ""));
  const matches = [(each) => each === text, (each) => each.trim() === text.trim(), (each) => each.includes(text.trim())];
  for (const isMatch of matches) {
    const place = texts.findIndex(isMatch);
    if (place >= 0) return leaves[place];
  }
  return null;
}

/** Return what stands in the last `\boxed{…}` with its braces closed; null if there is none. */
export function boxedAnswer(text) {
  for (let at = text.lastIndexOf("\\boxed{"); at >= 0; at = at > 0 ? text.lastIndexOf("\\boxed{", at - 1) : -1) {
    const start = at + "\\boxed{".length;
    for (let i = start, depth = 1; i < text.length; i += 1) {
      if (text[i] === "{") depth += 1;
      if (text[i] === "}") depth -= 1;
      if (depth === 0) return text.slice(start, i);
    }
  }
  return null;
}

/**
 * Return the votes of the responses, most first: `{answer, places}`; answer null for responses without one. Answers
 * are told apart as they are written, spaces aside; the vote itself also counts answers that mean the same.
 */
export function votes(leaves) {
  const places = new Map();
  leaves.forEach((leaf, place) => {
    const answer = leaf ? boxedAnswer(textOf(leaf)) : null;
    const written = answer === null ? null : answer.replace(/\s+/g, " ").trim();
    places.set(written, [...(places.get(written) ?? []), place]);
  });
  const all = [...places].map(([answer, of]) => ({ answer, places: of }));
  return all.sort((a, b) => (a.answer === null) - (b.answer === null) || b.places.length - a.places.length);
}
