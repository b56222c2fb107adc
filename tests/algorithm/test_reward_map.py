"""From any number that a reward model gives to the reward that a method sees."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Params
from gsi.algorithm.reward_map import REWARD_MAPS, Linear, LogisticMap, Raw, RewardMap, Threshold
from gsi.algorithm.weighting import Binary
from tests.algorithm.worlds import World, make_first_round

BOUNDED = [LogisticMap(), LogisticMap(-3.0, 0.1), Linear(), Linear(2.0, 8.0), Threshold(), Threshold(-5.0)]

scores = st.floats(allow_nan=False)


@pytest.mark.parametrize(
    ("reward_map", "raw", "reward"),
    [
        (Raw(), -7.25, -7.25),
        (LogisticMap(), 0.0, 0.5),
        (LogisticMap(), math.log(3), 0.75),
        (LogisticMap(10.0, 2.0), 10 - 2 * math.log(3), 0.25),
        (Linear(), 0.4, 0.4),
        (Linear(-10.0, 20.0), 5.0, 0.75),
        (Linear(-10.0, 20.0), -11.0, 0.0),
        (Linear(-10.0, 20.0), 11.0, 1.0),
        (Threshold(2.0), 2.0, 1.0),
        (Threshold(2.0), 1.999, 0.0),
    ],
)
def test_the_formulas(reward_map: RewardMap, raw: float, reward: float) -> None:
    """s, 1 / (1 + e^{-(s - center) / scale}), (s - center) / scale in [0, 1], 1(s >= center)."""
    assert reward_map.reward(raw) == pytest.approx(reward)


@pytest.mark.parametrize("reward_map", BOUNDED)
@given(raw=scores)
def test_a_mapped_reward_is_in_the_unit_interval(reward_map: RewardMap, raw: float) -> None:
    """Then u, delta and beta mean what they mean with a process reward model."""
    assert 0 <= reward_map.reward(raw) <= 1


@pytest.mark.parametrize("reward_map", [Raw(), *BOUNDED])
@given(lower=scores, higher=scores)
def test_a_map_keeps_the_order(reward_map: RewardMap, lower: float, higher: float) -> None:
    """What the reward model finds better is never worse for the method."""
    lower, higher = sorted((lower, higher))
    assert reward_map.reward(lower) <= reward_map.reward(higher)


@pytest.mark.parametrize("reward_map", [Raw(), *BOUNDED])
def test_nan_stays_nan(reward_map: RewardMap) -> None:
    """No number is no reward: it must rank below every other, not become 0 or 1."""
    assert math.isnan(reward_map.reward(math.nan))


@pytest.mark.parametrize("reward_map", BOUNDED)
def test_the_extremes_are_the_ends(reward_map: RewardMap) -> None:
    """No overflow on the way there."""
    assert reward_map.reward(-1e308) == reward_map.reward(-math.inf) == 0.0
    assert reward_map.reward(1e308) == reward_map.reward(math.inf) == 1.0


@pytest.mark.parametrize(
    ("kind", "numbers", "allowed"),
    [
        (LogisticMap, {"center": math.nan}, "center is nan; allowed: a finite number"),
        (LogisticMap, {"scale": 0.0}, "scale is 0; allowed: a finite number above 0"),
        (Linear, {"scale": -2.0}, "scale is -2; allowed: a finite number above 0"),
        (Linear, {"scale": math.inf}, "scale is inf; allowed: a finite number above 0"),
        (Threshold, {"center": -math.inf}, "center is -inf; allowed: a finite number"),
    ],
)
def test_a_number_that_makes_no_map_is_refused(kind: type[RewardMap], numbers: dict[str, float], allowed: str) -> None:
    """The error says which number it was, and what is allowed."""
    with pytest.raises(ValueError, match=f"^{allowed}$"):
        kind(**numbers)


def test_the_names_of_the_maps() -> None:
    """They are part of the payload's format."""
    assert list(REWARD_MAPS) == ["raw", "logistic", "linear", "threshold"]


SCORES = World(draft=(0.4, 0.3, 0.3), target=(0.2, 0.3, 0.5), reward=(-6.0, 0.0, 12.0))  # of an outcome reward model


@pytest.mark.parametrize("method", ["gsi", "rsd", "soft-best-of-n", "best-of-n"])
@pytest.mark.parametrize("reward_map", [Raw(), LogisticMap(), Threshold(6.0)])
async def test_a_method_sees_mapped_rewards_and_nothing_else(method: str, reward_map: RewardMap) -> None:
    """Selection, acceptance and what is kept on record: all by the same number."""
    params = Params(method=method, n=4, beta=1.0, reward_map=reward_map)
    for seed in range(20):
        made = await make_first_round(params, SCORES.ports(), seed)
        assert made.step.reward == reward_map.reward(SCORES.reward[made.step.token_ids[0]])
        for proposal in made.proposals:
            assert proposal.rewards == [reward_map.reward(SCORES.reward[c.token_ids[0]]) for c in proposal.candidates]
        assert made.step.best_reward == max(made.proposals[-1].rewards)


async def test_rsd_on_raw_scores_has_its_threshold_at_0() -> None:
    """RSD, section 4: with an outcome reward model a step is accepted if its score is above 0 (delta = 0)."""
    params = Params(method="rsd", n=1, weighting=Binary(0.0))
    for seed in range(50):
        made = await make_first_round(params, SCORES.ports(), seed)
        drafted = made.by(Source.DRAFT)[0].candidates[0].token_ids[0]
        assert (made.step.source is Source.DRAFT) == (SCORES.reward[drafted] >= 0)
