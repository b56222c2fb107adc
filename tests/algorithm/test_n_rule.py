"""Adaptive n: when another candidate would not pay, and what stopping does to a method's law.

The rules are those of Weitzman ("Optimal Search for the Best Alternative", 1979), of Kalayci et al. ("Optimal Stopping
vs Best-of-N for Inference Time Optimization", arXiv 2510.01394) and of BEACON (arXiv 2510.15945).
"""

import asyncio
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from gsi.algorithm.lookahead import Lookahead
from gsi.algorithm.methods import METHODS
from gsi.algorithm.n_rule import (
    N_RULES,
    BeaconRule,
    NRule,
    PandoraRule,
    ThresholdRule,
    expected_excess,
    part_ends,
)
from gsi.algorithm.params import Params, SamplingParams, Scope, StopRules
from gsi.algorithm.ports import CandidateBatches, Ports
from gsi.algorithm.proposal import Proposal
from gsi.jobs.step_record import StepRecord
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, first_rounds, p_value, steps, written_steps
from tests.algorithm.searching import ENDLESS, UNREAD, WORLD, write
from tests.algorithm.worlds import EnumerableModel, World, make_first_round

SMALL = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.6, 1.0))
ADAPTIVE = sorted(name for name, method in METHODS.items() if "n_rule" in method.parameters)
rewards = st.lists(st.floats(-2.0, 1.0), min_size=1, max_size=40)


@dataclass(frozen=True)
class Never:
    """Never enough."""

    def is_enough(self, rewards: Sequence[float]) -> bool:
        return False


# --- The rules ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 256))
def test_each_part_is_as_large_as_all_before_it(n: int) -> None:
    """So a step waits for at most three parts, and half of them save half of the candidates."""
    ends = part_ends(n)
    assert ends[-1] == n
    assert len(ends) <= 3
    assert ends == sorted(set(ends))
    assert all(after <= 2 * before for before, after in pairwise(ends))


def test_the_parts_of_usual_numbers() -> None:
    """A quarter, a half, all."""
    assert [part_ends(n) for n in (1, 2, 3, 4, 16)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4], [4, 8, 16]]


@pytest.mark.parametrize("cost", [0.02, 0.1])
def test_the_threshold_is_weitzmans_rule_at_the_fair_cap_value(cost: float) -> None:
    """tau solves E[(r - tau)+] = c: above it another candidate of this law costs more than it gains, below it less."""
    low, high = 0.0, 1.0
    for _ in range(60):
        tau = (low + high) / 2
        gain = exact.expectation(SMALL.draft, [max(0.0, r - tau) for r in SMALL.reward])
        low, high = (tau, high) if gain > cost else (low, tau)
    rule = ThresholdRule(tau)
    for best in SMALL.reward:
        gain = exact.expectation(SMALL.draft, [max(0.0, r - best) for r in SMALL.reward])
        assert rule.is_enough([best]) is (gain <= cost)


@given(st.integers(1, 6), st.sampled_from([0.05, 0.2, 0.5]))
def test_pandoras_bound_holds_with_its_probability(k: int, delta: float) -> None:
    """In every world of k candidates: the bound is below the true gain of another with probability delta at most."""
    wrong = 0.0
    for drawn in product(SMALL.steps, repeat=k):
        seen = [SMALL.reward[y] for y in drawn]
        gain = exact.expectation(SMALL.draft, [max(0.0, r - max(seen)) for r in SMALL.reward])
        if PandoraRule(gain * 0.999999, delta).is_enough(seen) and gain:
            wrong += math.prod(SMALL.draft[y] for y in drawn)
    assert wrong <= delta


@given(rewards, st.floats(0.0, 0.5))
def test_beacon_weighs_the_gain_of_another_reward_by_students_law(seen: list[float], cost: float) -> None:
    """The posterior predictive of a normal law with an unknown mean and variance, integrated by scipy."""
    k, is_enough = len(seen), BeaconRule(cost).is_enough(seen)
    if k < 3 or max(seen) == min(seen):
        assert is_enough is (k >= 3)
        return
    law = stats.t(k - 1, loc=statistics.mean(seen), scale=statistics.stdev(seen) * math.sqrt(1 + 1 / k))
    gain, error = integrate.quad(law.sf, max(seen), math.inf)
    if abs(gain - cost) > 10 * error + 1e-9:
        assert is_enough is (gain <= cost)


@pytest.mark.parametrize("degrees", [2, 3, 4, 7, 30, 255])
@pytest.mark.parametrize("level", [0.0, 0.5, 3.0, 40.0])
def test_the_expected_excess_is_the_integral_of_the_upper_tail(degrees: int, level: float) -> None:
    """By a finite series, since the algorithm has the standard library alone."""
    expected, _ = integrate.quad(stats.t(degrees).sf, level, math.inf)
    assert expected_excess(level, degrees) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_reward_that_is_not_a_number_is_no_reason_to_stop() -> None:
    """It ranks as -inf, as everywhere."""
    for rule in (ThresholdRule(0.5), PandoraRule(), BeaconRule()):
        assert not rule.is_enough([-math.inf] * 8)
    assert BeaconRule().is_enough([0.5, 0.5, 0.5, -math.inf])


@given(rewards, st.floats(0, 1))
def test_more_candidates_are_enough_where_fewer_were(seen: list[float], more: float) -> None:
    """Threshold and Pandora never take back what they said; BEACON may, as its law is learned."""
    for rule in (ThresholdRule(0.5), PandoraRule(0.1)):
        assert rule.is_enough([*seen, more]) or not rule.is_enough(seen)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ThresholdRule(math.inf), "level is inf; allowed: a finite number"),
        (lambda: PandoraRule(cost=-1), "cost is -1; allowed: a finite number of at least 0"),
        (lambda: PandoraRule(delta=0.6), "delta is 0.6; allowed: a number above 0, and at most 0.5"),
        (lambda: BeaconRule(cost=math.nan), "cost is nan; allowed: a finite number of at least 0"),
    ],
)
def test_a_number_that_a_rule_cannot_have_is_refused(make: Callable[[], NRule], error: str) -> None:
    """In the words that a job's submitter gets."""
    with pytest.raises(ValueError, match=error):
        make()


# --- The law ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [ThresholdRule(0.6), PandoraRule(0.3, 0.5), BeaconRule(0.1), Never()])
async def test_soft_best_of_n_with_a_rule_follows_its_exact_law(rule: NRule) -> None:
    """Every sequence of draws, stopped where the rule stops it, and then soft best-of-n among those there are."""
    params = Params(method="soft-best-of-n", n=6, beta=3.0, n_rule=rule)
    law = exact.adaptive_soft_best_of_n(SMALL.draft, SMALL.reward, 3.0, part_ends(6), rule.is_enough)
    drawn = steps(await first_rounds(SMALL, params, 6000))
    assert p_value(dict(enumerate(law)), drawn) > LEAST_P


@pytest.mark.parametrize("rule", [ThresholdRule(0.6), BeaconRule(0.1)])
async def test_algorithm_1_with_a_rule_follows_its_exact_law(rule: NRule) -> None:
    """The rule sees rewards, and the draw tilted rewards; the target's candidates are stopped as well."""
    params = Params(n=5, beta=3.0, acceptance_threshold=0.55, n_rule=rule)
    law = exact.adaptive_algorithm_1(SMALL, 3.0, 0.55, part_ends(5), rule.is_enough)
    made = await first_rounds(SMALL, params, 4000)
    assert p_value(law, written_steps(made)) > LEAST_P
    plain = exact.of_steps(exact.algorithm_1(SMALL, 3.0, 0.55, 5, 5), SMALL)
    assert exact.total_variation(exact.of_steps(law, SMALL), plain) > 0.005


def test_a_rule_changes_the_law_of_soft_best_of_n() -> None:
    """It is no mixture of the laws of fewer candidates, either: whoever stops at a good reward has seen few others."""
    plain = exact.soft_best_of_n(SMALL.draft, SMALL.reward, 3.0, 6)
    fewer = exact.soft_best_of_n(SMALL.draft, SMALL.reward, 3.0, 2)
    rule = ThresholdRule(1.0)
    adaptive = exact.adaptive_soft_best_of_n(SMALL.draft, SMALL.reward, 3.0, part_ends(6), rule.is_enough)
    assert exact.total_variation(adaptive, plain) > 0.01
    stops_at_two = 1 - (1 - SMALL.draft[2]) ** 2  # the probability that a step of reward 1 is among the first two
    stops_at_three = (1 - SMALL.draft[2]) ** 2 * SMALL.draft[2]
    at_three = exact.soft_best_of_n(SMALL.draft, SMALL.reward, 3.0, 3)
    weights = (stops_at_two, stops_at_three, 1 - stops_at_two - stops_at_three)
    mixture = [
        sum(w * p for w, p in zip(weights, laws, strict=True)) for laws in zip(fewer, at_three, plain, strict=True)
    ]
    assert exact.total_variation(adaptive, mixture) > 0.01


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=3, max_size=3), st.permutations([0.2, 0.6, 1.0]))
def test_best_of_n_that_stops_at_the_highest_possible_reward_keeps_its_law(
    n: int, weights: list[int], rewards: list[float]
) -> None:
    """Exactly, for every law and number: the first candidate of the highest reward is the same with those to come."""
    draft = [weight / sum(weights) for weight in weights]
    adaptive = exact.adaptive_best_of_n(draft, rewards, part_ends(n), ThresholdRule(1.0).is_enough)
    assert adaptive == pytest.approx(exact.best_of_n(draft, rewards, n), abs=1e-12)


@given(st.integers(1, 6), st.sampled_from([ThresholdRule(0.6), PandoraRule(0.2, 0.5), BeaconRule(0.1)]))
def test_best_of_n_with_a_rule_is_between_a_quarter_of_n_and_n(n: int, rule: NRule) -> None:
    """Its best reward, in distribution: the first part is always written, and no more than n."""
    least, most = (exact.best_of_n(SMALL.draft, SMALL.reward, k) for k in (part_ends(n)[0], n))
    adaptive = exact.adaptive_best_of_n(SMALL.draft, SMALL.reward, part_ends(n), rule.is_enough)
    for level in SMALL.reward:
        reach = [
            sum(p for p, r in zip(law, SMALL.reward, strict=True) if r >= level) for law in (least, adaptive, most)
        ]
        assert reach[0] <= reach[1] + 1e-12
        assert reach[1] <= reach[2] + 1e-12


async def test_best_of_n_that_stops_at_the_highest_possible_reward_saves_candidates_and_keeps_its_law() -> None:
    """As above, of the method itself: fewer candidates, the same law of the step."""
    params = Params(method="best-of-n", n=6, n_rule=ThresholdRule(1.0))
    made = await first_rounds(SMALL, params, 6000)
    plain = exact.best_of_n(SMALL.draft, SMALL.reward, 6)
    assert p_value(dict(enumerate(plain)), steps(made)) > LEAST_P
    misses = 1 - SMALL.draft[2]
    law = {2: 1 - misses**2, 3: misses**2 - misses**3, 6: misses**3}
    assert p_value(law, [len(one.proposals[0].candidates) for one in made]) > LEAST_P


# --- Without a rule, and with one that never stops ------------------------------------------------------------------


@pytest.mark.parametrize("method", ADAPTIVE)
async def test_the_first_part_is_the_first_candidates_of_a_job_without_a_rule(method: str) -> None:
    """Candidate i depends on (seed, i) alone."""
    params = Params(method=method, n=8, beta=2.0)
    plain = await make_first_round(params, WORLD.ports(), 4)
    adaptive = await make_first_round(replace(params, n_rule=ThresholdRule(-1.0)), WORLD.ports(), 4)
    assert len(adaptive.proposals[0].candidates) == 2
    assert adaptive.proposals[0].candidates == plain.proposals[0].candidates[:2]
    assert adaptive.proposals[0].scores == {name: list(s[:2]) for name, s in plain.proposals[0].scores.items()}


@pytest.mark.parametrize("method", ADAPTIVE)
async def test_every_adaptive_method_asks_for_fewer_in_every_step(method: str) -> None:
    """And for all n where the rule never has enough."""
    params = Params(method=method, n=8, beta=2.0, stop=StopRules(max_steps=5))

    async def counts(rule: NRule) -> set[int]:
        written = await write(replace(params, n_rule=rule), WORLD.ports(), 3)
        return {len(proposal.candidates) for made in written.rounds for proposal in made.proposals}

    assert await counts(ThresholdRule(-1.0)) == {2}
    assert await counts(Never()) == {8}
    assert await counts(ThresholdRule(0.9)) <= {2, 4, 8}


async def test_a_method_that_asks_for_a_given_number_ignores_the_rule() -> None:
    """Beams, subtrees and particles are as many as the search keeps; a model alone writes one candidate."""
    for method in sorted(set(METHODS) - set(ADAPTIVE)):
        params = Params(method=method, n=4, beta=2.0, stop=StopRules(max_steps=3))
        plain, ruled = [
            [made.branches for made in (await write(each, WORLD.ports(), 3)).rounds]
            for each in (params, replace(params, n_rule=ThresholdRule(-1.0)))
        ]
        assert plain == ruled


# --- Seeds, order, records ------------------------------------------------------------------------------------------


class Shuffled(EnumerableModel):
    """A model whose candidates finish one by one, in an order of its own."""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        async for batch in super().propose(prefix, n, sampling, seed):
            for candidate in sorted(batch, key=lambda one: (one.index * 7 + 3) % n):
                await asyncio.sleep(0)
                yield [candidate]


@given(st.sampled_from(ADAPTIVE), st.sampled_from(list(N_RULES)), st.integers(0, 2**32))
async def test_what_finishes_first_decides_nothing(method: str, name: str, seed: int) -> None:
    """The same candidates, scores and step, whatever the order in which they arrive."""
    params = Params(method=method, n=7, beta=2.0, n_rule=N_RULES[name](), stop=StopRules(max_steps=4))
    ports = WORLD.ports()
    shuffled = Ports(Shuffled(WORLD, WORLD.draft), Shuffled(WORLD, WORLD.target), ports.prm)
    one, two = [[timeless(made.proposals) for made in (await write(params, p, seed)).rounds] for p in (ports, shuffled)]
    assert one == two


def timeless(proposals: Sequence[Proposal]) -> list[Proposal]:
    return [replace(proposal, seconds={}, first_seconds=0.0) for proposal in proposals]


@given(st.sampled_from(ADAPTIVE), st.sampled_from(list(Scope)), st.integers(0, 2**32), st.data())
async def test_a_resumed_job_asks_for_the_same_candidates(
    method: str, scope: Scope, seed: int, data: st.DataObject
) -> None:
    """The rule reads rewards of a step, or scores of finished responses: both come of the seed and the kept rounds."""
    params = Params(method=method, n=7, beta=2.0, scope=scope, n_rule=BeaconRule(0.05), stop=StopRules(max_steps=4))
    whole = await write(params, WORLD.ports(), seed)
    cut = data.draw(st.integers(0, len(whole.rounds)))
    records = [StepRecord.from_round(made, keep_candidates=False).to_json() for made in whole.rounds[:cut]]
    kept = [StepRecord.from_json(text).to_branches() for text in records]
    again = await write(params, WORLD.ports(), seed, kept=kept)
    assert (again.answer, again.reason) == (whole.answer, whole.reason)
    assert [timeless(made.proposals) for made in again.rounds] == [
        timeless(made.proposals) for made in whole.rounds[cut:]
    ]


async def test_a_record_says_how_many_candidates_were_made_and_what_they_cost() -> None:
    """Only those that were asked for: none is written and thrown away."""
    params = Params(method="best-of-n", n=16, n_rule=ThresholdRule(0.9))
    asked: list[int] = []

    class Counting(EnumerableModel):
        def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
            asked.append(n)
            return super().propose(prefix, n, sampling, seed)

    ports = replace(WORLD.ports(), draft=Counting(WORLD, WORLD.draft))
    for seed in range(30):
        asked.clear()
        made = await make_first_round(params, ports, seed)
        record = StepRecord.from_round(made, keep_candidates=True)
        assert asked == [4, 4, 8][: len(asked)]
        assert record.draft_tokens == sum(asked) == len(record.proposals[0].candidates)
        assert [candidate.index for candidate in made.proposals[0].candidates] == list(range(sum(asked)))
        seconds = made.proposals[0].seconds
        assert 0 <= made.proposals[0].first_seconds <= seconds["propose"] <= seconds["prm"]


async def test_nothing_is_written_ahead_of_a_step_whose_candidates_come_in_parts() -> None:
    """The leader of a part may be overtaken by the next part."""
    fates: list[object] = []
    params = Params(n=4, beta=2.0, acceptance_threshold=-10, n_rule=Never(), stop=StopRules(max_steps=3))
    lookahead = Lookahead(has_room=lambda: True, note=fates.append)
    written = await write(params, ENDLESS.ports(), answers=UNREAD, lookahead=lookahead)
    assert (len(written.rounds), fates) == (3, [])


# --- Over whole responses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["best-of-n", "soft-best-of-n"])
async def test_over_responses_the_next_part_begins_when_the_scores_are_not_enough(method: str) -> None:
    """The rule reads the scores of whole responses, and the answer is one of those that were begun."""
    params = Params(method=method, n=8, scope=Scope.RESPONSES, n_rule=ThresholdRule(0.9), stop=StopRules(max_steps=3))
    begun = Counter[int]()
    for seed in range(40):
        written = await write(params, ENDLESS.ports(), seed, answers=UNREAD)
        last = written.populations(params)[-1]
        scores = [one.steps[-1].reward for one in last if one.steps]
        begun[len(scores)] += 1
        if len(scores) > 2:  # or the first part would have been enough
            assert max(scores[: len(scores) // 2]) < 0.9
        assert len(scores) == 8 or max(scores) >= 0.9
        assert len(written.answer.steps) == 3
        assert {len(one.steps) for one in last[len(scores) :]} <= {0}
    assert set(begun) == {2, 4, 8}


async def test_over_responses_the_best_keeps_its_law() -> None:
    """Of the last reward, which is at most 0.9 in this world, best-of-n has the same law with the rule as without."""
    world = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.5, 0.9))
    params = Params(method="best-of-n", n=4, scope=Scope.RESPONSES, n_rule=ThresholdRule(0.9))
    params = replace(params, stop=StopRules(max_steps=2))
    drawn = [(await write(params, world.ports(), seed, answers=UNREAD)).answer for seed in range(800)]
    law = exact.best_of_n(world.draft, world.reward, 4)
    assert p_value(dict(enumerate(law)), [answer.token_ids[-1] for answer in drawn]) > LEAST_P


def test_the_methods_that_read_the_rule() -> None:
    """Those that choose by rewards among n candidates of a step."""
    assert set(ADAPTIVE) == {
        "gsi",
        "gsi-no-rejection",
        "rsd",
        "specs",
        "arbitrage",
        "arbitrage-oracle",
        "soft-best-of-n",
        "best-of-n",
    }
