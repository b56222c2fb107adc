"""Arbitrage and its oracle: their laws in worlds that can be enumerated, and what a router reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from gsi.algorithm.candidates import Candidate, FinishReason, Outcome, Source, Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.router import FEATURES, Features, LogisticRouter, RewardRouter, describe_step
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, first_rounds, p_value, written_steps
from tests.algorithm.worlds import START, World, make_first_round

NUM_DRAWS = 4000
WORLD = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.6, 0.9))
TIES = World(draft=(0.6, 0.4), target=(0.3, 0.7), reward=(0.5, 0.5))
Law = Mapping[tuple[Source, int], float]


@dataclass(frozen=True)
class Table:
    """A router that knows the probability of each reward."""

    by_reward: Mapping[float, float]

    def probability(self, features: Features) -> float:
        return self.by_reward[features["reward"]]


def oracle(world: World, beta: float, n: int, n_target: int) -> Law:
    """Return the law of (who wrote the kept step, which step): both write, and a higher reward takes the target's."""
    drafted = exact.soft_best_of_n(world.draft, world.reward, beta, n)
    written = exact.soft_best_of_n(world.target, world.reward, beta, n_target)
    law = {(source, y): 0.0 for source in Source for y in world.steps}
    for d in world.steps:
        for t in world.steps:
            is_better = world.reward[t] > world.reward[d]
            law[(Source.TARGET, t) if is_better else (Source.DRAFT, d)] += drafted[d] * written[t]
    return law


@pytest.mark.parametrize("world", [WORLD, TIES])
@pytest.mark.parametrize(("n", "n_target"), [(1, 1), (2, 1), (1, 3)])
async def test_the_oracle_keeps_the_better_step(world: World, n: int, n_target: int) -> None:
    """Its law is that of two independent draws and a comparison; a tie is the draft's."""
    params = Params(method="arbitrage-oracle", n=n, n_target=n_target, beta=2.0)
    made = await first_rounds(world, params, NUM_DRAWS)
    assert p_value(oracle(world, 2.0, n, n_target), written_steps(made)) > LEAST_P


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
async def test_arbitrage_is_rsd_whose_rule_is_the_router(n: int, threshold: float) -> None:
    """The draft's step y is kept if p(y) <= tau; else the target writes: equation (2) of RSD with that weighting."""
    router = Table({0.2: 0.8, 0.6: 0.5, 0.9: 0.1})  # 0.5 is at the threshold, and is kept
    params = Params(method="arbitrage", n=n, beta=2.0, router=router, router_threshold=threshold)
    weights = [float(router.by_reward[reward] <= threshold) for reward in WORLD.reward]
    made = await first_rounds(WORLD, params, NUM_DRAWS)
    assert p_value(exact.rsd(WORLD, weights, beta=2.0, n=n), written_steps(made)) > LEAST_P


async def test_the_oracle_is_above_every_router() -> None:
    """With n = 1 its expected reward is the highest that a choice between the two steps can have."""
    best = exact.expectation(exact.of_steps(oracle(WORLD, 1.0, 1, 1), WORLD), WORLD.reward)
    for kept in range(2 ** len(WORLD.reward)):
        weights = [float(kept >> y & 1) for y in WORLD.steps]
        assert exact.rsd_reward(WORLD, weights) < best


async def test_both_branches_of_the_oracle_are_on_record() -> None:
    """Whichever is kept: a router learns from them. A replaced step stands beside its replacement."""
    outcomes = set()
    for seed in range(40):
        made = await make_first_round(Params(method="arbitrage-oracle", n=2), WORLD.ports(), seed)
        drafted, written = made.proposals
        outcomes.add(made.step.outcome)
        assert (drafted.source, written.source) == (Source.DRAFT, Source.TARGET)
        assert made.num_tokens(Source.TARGET) == 2
        better = written.rewards[written.drawn] > drafted.rewards[drafted.drawn]
        assert made.step.outcome is (Outcome.RESAMPLED if better else Outcome.ACCEPTED)
        assert (made.step.rejected is not None) is better
        assert made.step.reward == max(written.rewards[written.drawn], drafted.rewards[drafted.drawn])
    assert outcomes == set(Outcome)


async def test_arbitrage_asks_the_target_only_where_the_router_says_so() -> None:
    """A kept step costs the target nothing, which is what the router is for."""
    for threshold, tokens in ((1.0, 0), (0.0, 3)):
        params = Params(method="arbitrage", n=3, router_threshold=threshold)
        made = await make_first_round(params, WORLD.ports())
        assert made.num_tokens(Source.TARGET) == tokens


@pytest.mark.parametrize("method", ["arbitrage", "arbitrage-oracle"])
async def test_a_step_without_a_reward_goes_to_the_target(method: str) -> None:
    """Nothing ranks lower, so no router is asked; where neither has a reward, the oracle keeps the draft's."""

    class Unasked:
        def probability(self, features: Features) -> float:
            raise AssertionError("it was asked")

    world = World(draft=(1.0, 0.0), target=(0.0, 1.0), reward=(math.nan, 0.1))
    made = await make_first_round(Params(method=method, n=1, router=Unasked(), router_threshold=1.0), world.ports())
    assert (made.step.source, made.step.token_ids) == (Source.TARGET, (1,))
    unrated = replace(world, reward=(math.nan, math.nan))
    made = await make_first_round(Params(method="arbitrage-oracle", n=1), unrated.ports())
    assert made.step.source is Source.DRAFT


async def test_a_router_reads_the_step_and_those_before() -> None:
    """By names that ``FEATURES`` explains, and from what is known before the target is asked."""
    first = (await make_first_round(Params(method="target"), WORLD.ports())).step
    trajectory = START.extend(replace(first, reward=0.4), replace(first, reward=math.nan, source=Source.DRAFT))
    candidates = (
        Candidate(0, (1, 2), "ab", -1.0, FinishReason.DELIMITER),
        Candidate(1, (3, 4, 5), "cde", -1.5, FinishReason.EOS),
        Candidate(2, (6,), "f", -3.0, FinishReason.LENGTH),
    )
    found = describe_step(trajectory, candidates, [0.5, 0.7, -math.inf], 1)
    assert found == pytest.approx(
        {
            "reward": 0.7,
            "best_reward": 0.7,
            "mean_reward": 0.6,
            "reward_lead": 0.2,
            "mean_log_likelihood": -0.5,
            "log_likelihood": -1.5,
            "log_tokens": math.log(3),
            "log_place": math.log(3),
            "previous_reward": 0.4,
            "least_reward": 0.4,
            "target_share": 0.5,
            "is_end": 1.0,
            "is_cut": 0.0,
        }
    )
    assert set(found or ()) == set(FEATURES)
    assert describe_step(trajectory, candidates, [0.5, 0.7, -math.inf], 2) is None


def test_the_first_step_has_features_too() -> None:
    """Where there is nothing before it, its own reward stands."""
    only = (Candidate(0, (1,), "a", -1.0, FinishReason.DELIMITER),)
    found = describe_step(Trajectory(START.prompt), only, [0.3], 0)
    assert found is not None
    assert (found["previous_reward"], found["least_reward"], found["target_share"]) == (0.3, 0.3, 0.0)
    assert (found["reward_lead"], found["log_place"]) == (0.0, 0.0)


def test_a_logistic_router_is_its_formula() -> None:
    """b + the sum of w (x - mean) / scale, through the logistic function."""
    router = LogisticRouter(("reward", "log_tokens"), (0.5, 2.0), (0.25, 1.0), (-2.0, 0.5), 0.1)
    z = 0.1 - 2.0 * (0.75 - 0.5) / 0.25 + 0.5 * (3.0 - 2.0)
    features = {"reward": 0.75, "log_tokens": 3.0, "is_end": 1.0}
    assert router.probability(features) == pytest.approx(1 / (1 + math.exp(-z)))


def test_a_router_that_has_learned_nothing_takes_what_is_left_to_gain() -> None:
    """1 - r, in [0, 1]."""
    assert [RewardRouter().probability({"reward": r}) for r in (-1.0, 0.25, 2.0)] == [1.0, 0.75, 0.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": ("reward", "colour")}, '"colour" is not allowed; allowed: reward'),
        ({"means": (1.0,)}, "means: allowed: a finite number for each of 2 features"),
        ({"weights": (1.0, math.nan)}, "weights: allowed: a finite number"),
        ({"scales": (1.0, 0.0)}, "scales: allowed: numbers above 0"),
        ({"intercept": math.inf}, "intercept is inf; allowed: a finite number"),
    ],
)
def test_numbers_that_are_no_router_are_refused(values: Mapping[str, object], message: str) -> None:
    """Each error names the field and what is allowed."""
    right: dict[str, object] = {
        "features": ("reward", "is_end"),
        "means": (0.0, 0.0),
        "scales": (1.0, 1.0),
        "weights": (1.0, 1.0),
        "intercept": 0.0,
    }
    with pytest.raises(ValueError, match=message):
        LogisticRouter(**{**right, **values})  # type: ignore[arg-type]  # the point of the test
