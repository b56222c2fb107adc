"""Preset ``authors``: what the code of GSI's authors does otherwise, and that a job without it does not.

``docs/algorithm.md`` has the table of differences, and which side is right.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gsi.algorithm.candidates import Branch, Outcome, Source, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Params, Preset, SamplingParams, StopRules
from gsi.algorithm.ports import CandidateBatches
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, first_rounds, p_value, written_steps
from tests.algorithm.test_paper import NUM_DRAWS, WORLD
from tests.algorithm.worlds import START, EnumerableModel, World, make_first_round

MAX_LENGTH = 1000
AUTHORS = Params(
    n=4,
    preset=Preset.AUTHORS,
    acceptance_threshold=10.0,
    stop=StopRules(max_steps=3, reward_floor=0.1, drops_low_step=True),
)
PAPER = Params(n=4, stop=StopRules(max_steps=3, reward_floor=0.1))

# Both models write one step, whose tilted reward is 0.5: beta times it is 10.
TIE = World(draft=(1.0, 0.0), target=(1.0, 0.0), reward=(0.5, 0.0))
# The draft writes what is worth nothing, the target what is good.
RESCUED = World(draft=(1.0, 0.0), target=(0.0, 1.0), reward=(0.05, 0.9))
# The draft's step is good enough, but the target never writes it; what the target writes is worth nothing.
LOST = World(draft=(1.0, 0.0), target=(0.0, 1.0), reward=(0.4, 0.05))


async def written(world: World, params: Params) -> tuple[Trajectory, StopReason, list[Round]]:
    """Write an answer; return it, why it ended, and the rounds that were kept."""
    rounds: list[Round] = []

    async def keep(made: Round) -> None:
        rounds.append(made)

    answer, reason = await generate(START, params, world.ports(), 1, keep=keep, max_length=MAX_LENGTH)
    return answer, reason, rounds


async def outcome_of(world: World, params: Params) -> Outcome:
    return (await make_first_round(params, world.ports())).step.outcome


async def test_a_tie_is_rejected() -> None:
    """Their code asks for chosen_reward > threshold, line 6 of Algorithm 1 for r~ >= u."""
    assert await outcome_of(TIE, AUTHORS) is Outcome.RESAMPLED
    assert await outcome_of(TIE, replace(AUTHORS, acceptance_threshold=10 - 1e-6)) is Outcome.ACCEPTED
    assert await outcome_of(TIE, PAPER) is Outcome.ACCEPTED


async def test_u_is_on_the_scale_of_beta_times_the_reward() -> None:
    """Their code compares u with beta r + log pi_B - log pi_S, the paper with r~, which is that divided by beta."""
    params = Params(n=2, beta=3.0, preset=Preset.AUTHORS, acceptance_threshold=1.5)
    law = exact.algorithm_1(WORLD, 3.0, u=1.5 / 3.0, n=2, n_target=2)
    assert 0.1 < sum(p for (source, _), p in law.items() if source is Source.TARGET) < 0.9
    made = await first_rounds(WORLD, params, NUM_DRAWS)
    assert p_value(law, written_steps(made)) > LEAST_P
    of_the_paper = await first_rounds(WORLD, replace(params, preset=Preset.PAPER), 200)
    assert {m.step.source for m in of_the_paper} == {Source.TARGET}  # no r~ of this world reaches 1.5


@pytest.mark.parametrize(("beta", "accepts"), [(8.0, False), (20.0, True)])
async def test_with_one_u_for_all_beta_nothing_is_accepted_below_u(beta: float, accepts: bool) -> None:
    """beta r is at most beta: the transition over beta of the paper's Figure 5 lies where beta passes u = 10."""
    best = World(draft=(1.0, 0.0), target=(1.0, 0.0), reward=(1.0, 0.0))
    assert (await outcome_of(best, replace(AUTHORS, beta=beta)) is Outcome.ACCEPTED) == accepts
    assert await outcome_of(best, replace(PAPER, beta=beta)) is Outcome.ACCEPTED


@pytest.mark.parametrize("method", ["gsi", "rsd"])
async def test_an_answer_ends_where_all_draft_rewards_are_low(method: str) -> None:
    """Their code stops before the target is asked; without the preset the target writes a better step."""

    class NoWriter(EnumerableModel):
        def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
            raise AssertionError("the target was asked to write")

    ports = replace(RESCUED.ports(), target=NoWriter(RESCUED, RESCUED.target))
    made = await make_first_round(replace(AUTHORS, method=method), ports)
    assert made.step.source is Source.DRAFT
    answer, reason, _ = await written(RESCUED, replace(AUTHORS, method=method))
    assert (answer.text, reason) == ("", StopReason.LOW_REWARD)
    answer, reason, _ = await written(RESCUED, replace(PAPER, method=method))
    assert (answer.text, reason) == ("bbb", StopReason.MAX_STEPS)


@pytest.mark.parametrize("method", ["gsi", "gsi-no-rejection", "rsd"])
async def test_the_step_that_ends_an_answer_is_dropped(method: str) -> None:
    """Of the draft or of the target, and whatever it says, the end of the sequence included; it stays on record."""
    world = (
        replace(RESCUED, ends=frozenset({0})) if method == "gsi-no-rejection" else replace(LOST, ends=frozenset({1}))
    )
    answer, reason, rounds = await written(world, replace(AUTHORS, method=method))
    assert (answer.text, reason, len(rounds)) == ("", StopReason.LOW_REWARD, 1)
    assert rounds[0].step.best_reward == 0.05
    answer, reason, _ = await written(world, replace(PAPER, method=method))
    assert (answer.text, reason) == ({"gsi-no-rejection": "a"}.get(method, "b"), StopReason.EOS)


async def test_only_the_last_step_is_dropped() -> None:
    """What was kept before it is the answer."""
    world = World(draft=(0.9, 0.1), target=(0.9, 0.1), reward=(0.9, 0.05))
    params = replace(AUTHORS, n=1, method="gsi-no-rejection", stop=replace(AUTHORS.stop, max_steps=500))
    answer, reason, rounds = await written(world, params)
    rewards = [made.step.best_reward for made in rounds]
    assert reason is StopReason.LOW_REWARD
    assert [reward < 0.1 for reward in rewards] == [False] * (len(rewards) - 1) + [True]
    assert [step.best_reward for step in answer.steps] == rewards[:-1]
    assert answer.text == "a" * (len(rewards) - 1) != ""


async def test_a_resumed_job_drops_the_step_that_an_earlier_attempt_kept() -> None:
    """The round is a checkpoint like any other: the answer is that of a job without interruption."""
    _, _, rounds = await written(LOST, AUTHORS)
    kept: list[Sequence[Branch]] = [made.branches for made in rounds]

    async def keep(made: Round) -> None:
        raise AssertionError("another step was written")

    answer, reason = await generate(START, AUTHORS, LOST.ports(), 1, keep=keep, max_length=MAX_LENGTH, kept=kept)
    assert (answer.text, reason) == ("", StopReason.LOW_REWARD)


async def test_a_candidate_without_a_reward_is_low() -> None:
    """NaN ranks below every number; in their code a NaN makes max(rewards) < 0.1 a matter of its place."""
    assert AUTHORS.stop.is_low(-math.inf)
    assert not StopRules(drops_low_step=True).is_low(-math.inf)
