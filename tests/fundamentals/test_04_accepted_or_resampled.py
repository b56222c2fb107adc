"""The tilted reward corrects for the draft; the threshold u decides who writes the step."""

import math

import pytest

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods.best_of_n import run_soft_step
from gsi.algorithm.methods.gsi import is_accepted, run_step
from gsi.algorithm.params import Params
from gsi.algorithm.tilting import tilted_reward
from tests.fundamentals.tiny import BAD, START, TINY


def test_the_tilted_reward_is_the_reward_plus_the_log_ratio_over_beta() -> None:
    """Up for what the target likes better than the draft does, down for what it likes less."""
    assert tilted_reward(0.8, math.log(0.7 / 0.4), beta=20) == pytest.approx(0.8 + 0.028, abs=1e-3)
    assert tilted_reward(0.1, math.log(0.1 / 0.4), beta=20) == pytest.approx(0.1 - 0.069, abs=1e-3)


def test_the_threshold_is_on_the_scale_of_the_reward() -> None:
    """u = 0.5 asks for half of the full reward, whatever beta is; a tie is enough."""
    assert is_accepted(0.5, acceptance_threshold=0.5)
    assert not is_accepted(0.499, acceptance_threshold=0.5)


async def test_a_candidate_that_reaches_the_threshold_is_accepted() -> None:
    """The draft's step is kept, and the target has only read."""
    step = (await run_step(START, Params(n=8), TINY, seed=1)).step
    assert (step.source, step.outcome) == (Source.DRAFT, Outcome.ACCEPTED)
    assert step.tilted_reward is not None
    assert step.tilted_reward >= 0.5


async def test_a_candidate_that_does_not_reach_it_is_resampled() -> None:
    """The target writes the step anew, by soft best-of-n on its own candidates; what was rejected stays on record."""
    step = (await run_step(START, Params(n=8, acceptance_threshold=0.99), TINY, seed=1)).step
    assert (step.source, step.outcome) == (Source.TARGET, Outcome.RESAMPLED)
    assert step.rejected is not None
    assert step.rejected.tilted_reward is not None
    assert step.rejected.tilted_reward < 0.99


async def test_guided_steps_are_better_than_the_drafts_own() -> None:
    """With eight candidates a step, a draft that errs four times in ten is wrong in none of a hundred jobs."""
    guided = [(await run_step(START, Params(n=8), TINY, seed)).step.text for seed in range(100)]
    alone = [(await run_soft_step(START, Params(n=1), TINY, seed)).step.text for seed in range(100)]
    assert guided.count(BAD) == 0
    assert alone.count(BAD) > 25
