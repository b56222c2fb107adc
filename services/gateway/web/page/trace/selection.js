/**
 * The figures by which a step's candidate was drawn, from its record: the one place of the page that computes them.
 *
 * GSI paper, section 3 (line 4 of Algorithm 1), with r the reward and beta the inverse temperature:
 *
 *     r~(x, y) = r(x, y) + (log pi_B(y | x) - log pi_S(y | x)) / beta
 *
 * and section 2 (lines 5 and 11), with s the tilted rewards of the draft's candidates where the method draws by these, or
 * the rewards:
 *
 *     P(select i) = exp(beta * s_i) / sum_j exp(beta * s_j)
 *
 * A reward that is not a number ranks as minus infinity, as in gsi/algorithm/tilting.py; the law is
 * gsi/algorithm/soft_best_of_n.py's, and tests/web/test_figures.py compares the two.
 */

import { isSearch, methodOf, reads } from "./methods.js";
import { read, show, showProbability } from "./numbers.js";

/** The rules by which a candidate is kept, in words. */
export const RULES = {
  tilted: "drawn with probability softmax(β · tilted reward)",
  reward: "drawn with probability softmax(β · reward)",
  best: "the highest reward is kept, the first of them",
  alone: "the only candidate is kept",
  search: "the search keeps candidates by their trajectories' scores, and draws none",
};

/** Return softmax(beta * scores): 0 for minus infinity, and uniform if every score is minus infinity. */
export function probabilities(scores, beta) {
  const best = Math.max(...scores);
  if (best === -Infinity) return scores.map(() => 1 / scores.length);
  const weights = scores.map((score) => Math.exp(beta * (score - best))); // the best weighs 1: no overflow
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** Return the name in RULES of the rule by which one candidate of `proposal` was kept. */
export function rule(proposal, params) {
  if (proposal.selected === null || proposal.selected === undefined) return "search";
  if (!reads(params, "n")) return "alone";
  if (!reads(params, "beta")) return "best";
  return methodOf(params).draws_tilted && proposal.source === "draft" ? "tilted" : "reward";
}

/**
 * Return the figures of a proposal: its rule, and for each candidate, in index order, reward, log-ratio (nats), tilted
 * reward (null unless the scorers were asked), and the probability of being drawn (null where none is drawn).
 */
export function figures(proposal, params) {
  const candidates = proposal.candidates.map((candidate, index) => ({
    index,
    text: candidate.text,
    finishReason: candidate.finish_reason,
    numTokens: candidate.token_ids.length,
    reward: read(candidate.reward),
    isDrawn: proposal.selected === index,
    ...tilt(candidate, params.beta),
  }));
  const name = rule(proposal, params);
  const law = probabilityOf(candidates, name, params.beta);
  return { rule: name, source: proposal.source, candidates: candidates.map((each, i) => ({ ...each, probability: law[i] })) };
}

function tilt(candidate, beta) {
  const likelihood = read(candidate.log_likelihood_target);
  if (likelihood === null) return { logRatio: null, tiltedReward: null };
  const logRatio = likelihood - read(candidate.log_likelihood);
  const reward = read(candidate.reward); // null: a step of a response whose score is made of other steps
  return { logRatio, tiltedReward: reward === null ? null : rankable(reward) + logRatio / beta };
}

function rankable(reward) {
  return reward === null || Number.isNaN(reward) ? -Infinity : reward;
}

function probabilityOf(candidates, name, beta) {
  const rewards = candidates.map((each) => rankable(each.reward));
  if (name === "tilted") return probabilities(candidates.map((each) => each.tiltedReward ?? -Infinity), beta);
  if (name === "reward") return probabilities(rewards, beta);
  if (name === "search") return candidates.map(() => null);
  const kept = name === "alone" ? 0 : rewards.indexOf(Math.max(...rewards));
  return candidates.map((_, index) => (index === kept ? 1 : 0));
}

/**
 * Return the test that the draft's candidate must pass: which number it reads, the least value, and whether a tie
 * passes; null if the method has no such line. With preset `authors`, u is on the scale of beta times the reward.
 */
export function acceptanceTest(params) {
  if (reads(params, "acceptance_threshold") && !isSearch(params)) {
    const isStrict = params.preset === "authors";
    return { of: "tilted reward", name: "u", least: params.acceptance_threshold / (isStrict ? params.beta : 1), isStrict };
  }
  if (reads(params, "weighting") && params.weighting?.name === "binary")
    return { of: "reward", name: "δ", least: params.weighting.delta, isStrict: false };
  return null;
}

/** Return the numbers by which the method chooses, each with its symbol. */
export function parametersOf(params) {
  const test = acceptanceTest(params);
  return [reads(params, "n") && ["n", params.n], reads(params, "beta") && ["β", params.beta], test && [test.name, test.least]].filter(Boolean);
}

/** Return whether the method may reject the draft's candidate of a step. */
export function canReject(params) {
  return methodOf(params).can_reject && !isSearch(params);
}

/** Return what a language model said of the draft's candidate, with its likeliest answers, without a full stop. */
export function sayJudgement({ source, score, probabilities }) {
  const answers = probabilities.map((probability, answer) => ({ answer, probability }));
  answers.sort((one, other) => other.probability - one.probability);
  const likely = answers.slice(0, 3).map(({ answer, probability }) => `${answer} with ${showProbability(probability)}`);
  return `the ${source} judged the draft's step: score ${show(score)} (${likely.join(", ")})`;
}

/** Return why the draft's candidate was rejected, as one sentence without a full stop. */
export function whyRejected(rejected, params, judgements = []) {
  if (judgements.length) return sayJudgement(judgements.at(-1));
  const test = acceptanceTest(params);
  if (test === null) return `reward ${show(rejected.reward)}; ${ruleThatRejected(params)} rejected it`;
  const value = read(test.of === "reward" ? rejected.reward : rejected.tilted_reward);
  if (value === null || Number.isNaN(value)) return `${test.of} ${show(value)}; ${test.name} = ${show(test.least)}`;
  const digits = digitsApart(value, test.least);
  return `${test.of} ${show(value, digits)} ${test.isStrict ? "≤" : "<"} ${test.name} = ${show(test.least, digits)}`;
}

/** Return in words what rejected a candidate where no line of a number did. */
function ruleThatRejected(params) {
  if (reads(params, "router_threshold")) return `the router (τ = ${params.router_threshold})`;
  if (!reads(params, "weighting")) return `the rule of ${params.method}`;
  const { name = "its weighting", ...numbers } = params.weighting ?? {};
  const values = Object.entries(numbers).map(([key, value]) => `${key} = ${value}`).join(", ");
  return `the draw by weighting ${name}${values && ` (${values})`}`;
}

/** Return how many digits it takes that two different numbers read differently: 2 at least, 6 at most. */
function digitsApart(one, other) {
  let digits = 2;
  while (digits < 6 && one !== other && one.toFixed(digits) === other.toFixed(digits)) digits += 1;
  return digits;
}
