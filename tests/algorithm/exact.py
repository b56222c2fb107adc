"""The papers' laws computed without sampling, and without ``gsi``: what its code is held against."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from gsi.algorithm.candidates import Source
from tests.algorithm.worlds import World, log

Law = Sequence[float]


def optimal(world: World, beta: float) -> list[float]:
    """Return pi_{beta,B} of equation (1): pi_B exp(beta r) / Z."""
    return normalised([p * math.exp(beta * r) for p, r in zip(world.target, world.reward, strict=True)])


def tilted_rewards(world: World, beta: float) -> list[float]:
    """Return r~ of section 3."""
    tables = zip(world.reward, world.target, world.draft, strict=True)
    return [r + (log(b) - log(s)) / beta for r, b, s in tables]


def soft_best_of_n(law: Law, scores: Sequence[float], beta: float, n: int) -> list[float]:
    """Return the law of the step that soft best-of-n keeps, from all |Y|^n draws.

    What is missing to 1 is the probability that every draw scores -inf, so that none can be kept.
    """
    kept = [0.0] * len(law)
    for draws in product(range(len(law)), repeat=n):
        weights = [math.exp(beta * scores[y]) for y in draws]
        if sum(weights) > 0:
            for y, weight in zip(draws, weights, strict=True):
                kept[y] += math.prod(law[d] for d in draws) * weight / sum(weights)
    return kept


def soft_best_of_many(law: Law, scores: Sequence[float], beta: float, n: int) -> list[float]:
    """Return what ``soft_best_of_n`` does, from the counts of each step: |Y|^n draws have far fewer of those."""
    weights = [math.exp(beta * score) for score in scores]
    kept = [0.0] * len(law)
    for counts in _counts(n, len(law)):
        ways = math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in counts)
        probability = math.exp(ways + sum(k * log(p) for k, p in zip(counts, law, strict=True) if k))
        total = sum(k * w for k, w in zip(counts, weights, strict=True))
        for y, (k, w) in enumerate(zip(counts, weights, strict=True)):
            kept[y] += probability * k * w / total
    return kept


def algorithm_1(world: World, beta: float, u: float, n: int, n_target: int) -> Mapping[tuple[Source, int], float]:
    """Return the law of (who wrote the step, which step) under Algorithm 1."""
    tilted = tilted_rewards(world, beta)
    selected = soft_best_of_n(world.draft, tilted, beta, n)
    accepted = {(Source.DRAFT, y): selected[y] if tilted[y] >= u else 0.0 for y in world.steps}
    anew = soft_best_of_n(world.target, world.reward, beta, n_target)
    rejected = 1 - sum(accepted.values())
    return accepted | {(Source.TARGET, y): rejected * anew[y] for y in world.steps}


def best_of_n(law: Law, scores: Sequence[float], n: int) -> list[float]:
    """Return the law of the step with the highest score, the first of them, from all |Y|^n draws."""
    kept = [0.0] * len(law)
    for draws in product(range(len(law)), repeat=n):
        kept[max(draws, key=lambda y: scores[y])] += math.prod(law[y] for y in draws)
    return kept


def adaptive_best_of_n(
    law: Law, scores: Sequence[float], part_ends: Sequence[int], is_enough: Callable[[Sequence[float]], bool]
) -> list[float]:
    """Return the law of the first step with the highest score, from all draws, stopped at the end of a part."""
    kept = [0.0] * len(law)
    for draws, probability in _stopped(law, scores, part_ends, is_enough):
        kept[max(draws, key=lambda y: scores[y])] += probability
    return kept


def adaptive_soft_best_of_n(
    law: Law,
    scores: Sequence[float],
    beta: float,
    part_ends: Sequence[int],
    is_enough: Callable[[Sequence[float]], bool],
    seen: Sequence[float] | None = None,
) -> list[float]:
    """Return the law of the step that soft best-of-n keeps, from all draws, stopped at the end of a part.

    ``seen`` are the rewards by which the rule stops, if those are not the scores.
    """
    kept = [0.0] * len(law)
    for draws, probability in _stopped(law, scores if seen is None else seen, part_ends, is_enough):
        for y, share in zip(draws, normalised([math.exp(beta * scores[y]) for y in draws]), strict=True):
            kept[y] += probability * share
    return kept


def adaptive_algorithm_1(
    world: World, beta: float, u: float, part_ends: Sequence[int], is_enough: Callable[[Sequence[float]], bool]
) -> Mapping[tuple[Source, int], float]:
    """Return the law of (who wrote the step, which step) under Algorithm 1, each model stopped by a rule on rewards."""
    tilted = tilted_rewards(world, beta)
    selected = adaptive_soft_best_of_n(world.draft, tilted, beta, part_ends, is_enough, world.reward)
    accepted = {(Source.DRAFT, y): selected[y] if tilted[y] >= u else 0.0 for y in world.steps}
    anew = adaptive_soft_best_of_n(world.target, world.reward, beta, part_ends, is_enough)
    rejected = 1 - sum(accepted.values())
    return accepted | {(Source.TARGET, y): rejected * anew[y] for y in world.steps}


def _stopped(
    law: Law, scores: Sequence[float], part_ends: Sequence[int], is_enough: Callable[[Sequence[float]], bool]
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the draws that there may be when the rule has enough of them, each with its probability."""
    for draws in product(range(len(law)), repeat=part_ends[-1]):
        stops = [end for end in part_ends if is_enough([scores[y] for y in draws[:end]])]
        made = draws[: min([*stops, part_ends[-1]])]
        yield made, math.prod(law[y] for y in draws)


def speculative_rejection(world: World, n: int, alpha: float, num_steps: int) -> Mapping[tuple[int, ...], float]:
    """Return the law of the answer that the draft writes in ``num_steps`` rounds (arXiv 2410.20290).

    It enumerates what every response writes in a round. The cutoff is the alpha quantile of the last rewards, and the
    memory holds n steps.
    """
    batches: dict[tuple[tuple[int, ...], ...], float] = {((),) * n: 1.0}
    for index in range(num_steps):
        draft, reward = (world.after(table, index) for table in (world.draft, world.reward))
        after: defaultdict[tuple[tuple[int, ...], ...], float] = defaultdict(float)
        for batch, probability in batches.items():
            num_rejected = int(alpha * len(batch)) if len(batch) * (index + 2) > n else 0
            for drawn in product(world.steps, repeat=len(batch)):
                written = [(*one, y) for one, y in zip(batch, drawn, strict=True)]
                best = sorted(range(len(batch)), key=lambda i: -reward[drawn[i]])[: len(batch) - num_rejected]
                kept = tuple(written[i] for i in sorted(best))
                after[kept] += probability * math.prod(draft[y] for y in drawn)
        batches = after
    last = world.after(world.reward, num_steps - 1)
    answers: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for batch, probability in batches.items():
        answers[max(batch, key=lambda one: last[one[-1]])] += probability
    return answers


def rsd(
    world: World, weights: Sequence[float], *, beta: float = 1.0, n: int = 1, n_target: int | None = None
) -> Mapping[tuple[Source, int], float]:
    """Return the law of (who wrote the step, which step) under RSD, where step y is accepted with ``weights[y]``.

    With n = 1 that is P_RSD of equation (2), RSD: its two terms are the two sources. With n above 1 soft best-of-n on
    the rewards selects the draft's step, and the target's.
    """
    selected = soft_best_of_n(world.draft, world.reward, beta, n)
    accepted = {(Source.DRAFT, y): weights[y] * selected[y] for y in world.steps}
    anew = soft_best_of_n(world.target, world.reward, beta, n_target or n)
    nu = 1 - sum(accepted.values())
    return accepted | {(Source.TARGET, y): nu * anew[y] for y in world.steps}


def judged(world: World, kept: Sequence[bool]) -> Mapping[tuple[Source, int], float]:
    """Return the law of (who wrote the step, which step) if the draft's step y is kept where ``kept[y]``."""
    accepted = {(Source.DRAFT, y): world.draft[y] * kept[y] for y in world.steps}
    rejected = 1 - sum(accepted.values())
    return accepted | {(Source.TARGET, y): rejected * world.target[y] for y in world.steps}


def rsd_within_budget(
    world: World, gamma: float, *, beta: float, n: int, n_target: int | None = None
) -> Mapping[tuple[Source, int], float]:
    """Return the law of (who wrote the step, which step) under RSD with a threshold per context (Proposition 2.3).

    After every |Y|^n draws the share gamma of what soft best-of-n would select, the worst of it, is rejected.
    """
    accepted = {(Source.DRAFT, y): 0.0 for y in world.steps}
    for draws in product(world.steps, repeat=n):
        selected = normalised([math.exp(beta * world.reward[y]) for y in draws])
        for y, probability in zip(draws, selected, strict=True):
            at_most = sum(p for z, p in zip(draws, selected, strict=True) if world.reward[z] <= world.reward[y])
            equal = sum(p for z, p in zip(draws, selected, strict=True) if world.reward[z] == world.reward[y])
            kept = min(1.0, max(0.0, (at_most - gamma) / equal))
            accepted[Source.DRAFT, y] += math.prod(world.draft[z] for z in draws) * probability * kept
    anew = soft_best_of_n(world.target, world.reward, beta, n_target or n)
    nu = 1 - sum(accepted.values())
    return accepted | {(Source.TARGET, y): nu * anew[y] for y in world.steps}


def of_steps(law: Mapping[tuple[Source, int], float], world: World) -> list[float]:
    """Return the law of the step, whoever wrote it."""
    return [law[Source.DRAFT, y] + law[Source.TARGET, y] for y in world.steps]


def rsd_reward(world: World, weights: Sequence[float]) -> float:
    """Return E_{P_RSD}[r], with n = 1."""
    return expectation(of_steps(rsd(world, weights), world), world.reward)


def normalised(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def expectation(law: Law, values: Sequence[float]) -> float:
    return sum(p * value for p, value in zip(law, values, strict=True))


def kl_divergence(p: Law, q: Law) -> float:
    """Return KL(p || q) in nats (section 2)."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def total_variation(p: Law, q: Law) -> float:
    """Return TV(p, q), half the sum of |p - q|, in [0, 1]."""
    return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


def chi_square_divergence(p: Law, q: Law) -> float:
    """Return chi^2(p || q) (section 2)."""
    return sum(a * a / b for a, b in zip(p, q, strict=True) if a > 0) - 1


def _counts(total: int, num_parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to spread ``total`` draws over ``num_parts`` steps."""
    if num_parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _counts(total - first, num_parts - 1):
            yield (first, *rest)
