"""One step: what is recorded of it, which models are asked, and the hard corners."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Candidate, FinishReason, Outcome, Source
from gsi.algorithm.methods import METHODS, best_of_n
from gsi.algorithm.methods.gsi import run_step
from gsi.algorithm.params import Params, SamplingParams
from gsi.algorithm.ports import CandidateBatches, ScoreBatches, TokenBatches
from gsi.algorithm.round import Round
from tests.algorithm.worlds import LETTERS, START, EnumerableModel, World, log, make_first_round

WORLD = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.5, 0.9))
ACCEPT_ALL = Params(n=4, acceptance_threshold=-1e6)
REJECT_ALL = Params(n=4, n_target=3, acceptance_threshold=1e6)


class Unasked:
    """A model that must not be asked."""

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        raise AssertionError("it was asked to propose")

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        raise AssertionError("it was asked to score")


class Numbered(EnumerableModel):
    """A model whose candidate i is step i, all equally likely, so that a step shows which index was selected."""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        yield [Candidate(i, (i,), LETTERS[0], 0.0, FinishReason.DELIMITER) for i in range(n)]


async def first_step(world: World, params: Params, seed: int = 1) -> Round:
    return await make_first_round(params, world.ports(), seed)


async def test_an_accepted_step_is_the_drafts_with_both_likelihoods() -> None:
    """Everything that decided for it is kept with it."""
    made = await first_step(WORLD, ACCEPT_ALL)
    step, y = made.step, made.step.token_ids[0]
    assert (step.index, step.source, step.outcome, step.rejected) == (0, Source.DRAFT, Outcome.ACCEPTED, None)
    assert (step.text, step.reward) == (LETTERS[y], WORLD.reward[y])
    assert (step.log_likelihood_draft, step.log_likelihood_target) == (log(WORLD.draft[y]), log(WORLD.target[y]))
    assert step.tilted_reward == pytest.approx(WORLD.reward[y] + math.log(WORLD.target[y] / WORLD.draft[y]) / 20)
    assert [proposal.source for proposal in made.proposals] == [Source.DRAFT]


async def test_a_resampled_step_is_the_targets_with_the_rejected_candidate_beside_it() -> None:
    """The draft never reads it, so it has no likelihood under the draft and no tilted reward."""
    made = await first_step(WORLD, REJECT_ALL)
    step, y = made.step, made.step.token_ids[0]
    assert (step.source, step.outcome) == (Source.TARGET, Outcome.RESAMPLED)
    assert (step.log_likelihood_draft, step.log_likelihood_target) == (None, log(WORLD.target[y]))
    assert step.tilted_reward is None
    rejected = step.rejected
    assert rejected is not None
    z = LETTERS.index(rejected.text)
    assert rejected.reward == WORLD.reward[z]
    assert rejected.log_likelihood_draft == log(WORLD.draft[z])
    assert rejected.log_likelihood_target == log(WORLD.target[z])
    assert rejected.tilted_reward in made.tilted_rewards


async def test_the_draft_proposes_n_and_the_target_n_target() -> None:
    """A step costs the tokens of every candidate, and a resampled one those of both models."""
    accepted, resampled = await first_step(WORLD, ACCEPT_ALL), await first_step(WORLD, REJECT_ALL)
    assert (accepted.num_tokens(Source.DRAFT), accepted.num_tokens(Source.TARGET)) == (4, 0)
    assert (resampled.num_tokens(Source.DRAFT), resampled.num_tokens(Source.TARGET)) == (4, 3)
    assert len(resampled.by(Source.DRAFT)[0].log_ratios) == len(resampled.tilted_rewards) == 4


async def test_best_reward_is_that_of_the_proposal_the_step_came_from() -> None:
    """The reward floor asks whether any candidate was good, not whether the draw was lucky."""
    for seed in range(50):
        made = await first_step(WORLD, replace(ACCEPT_ALL, beta=0.1), seed)
        assert made.step.best_reward == max(made.by(Source.DRAFT)[0].scores["prm"]) >= made.step.reward
        made = await first_step(WORLD, REJECT_ALL, seed)
        assert made.step.best_reward == max(made.by(Source.TARGET)[0].scores["prm"])


async def test_draft_soft_best_of_n_never_asks_the_target() -> None:
    """It needs no large model at all."""
    ports = replace(WORLD.ports(), target=Unasked())
    made = await make_first_round(Params(method="soft-best-of-n", n=4), ports)
    assert (made.step.source, made.step.outcome) == (Source.DRAFT, Outcome.ACCEPTED)
    assert (made.step.log_likelihood_target, made.step.tilted_reward) == (None, None)


async def test_target_soft_best_of_n_never_asks_the_draft() -> None:
    """It is the law that GSI approximates."""
    ports = replace(WORLD.ports(), draft=Unasked())
    made = await make_first_round(Params(method="soft-best-of-n", n=4, role=Source.TARGET), ports)
    assert (made.step.source, made.step.outcome) == (Source.TARGET, Outcome.ACCEPTED)
    assert (made.step.log_likelihood_draft, made.step.tilted_reward) == (None, None)


@pytest.mark.parametrize("threshold", [-1e6, 0.5])
async def test_a_draft_that_writes_only_what_the_target_never_would_is_resampled(threshold: float) -> None:
    """Every tilted reward is -inf; one is drawn all the same, and fails whatever the threshold."""
    world = World(draft=(0.5, 0.5, 0.0), target=(0.0, 0.0, 1.0), reward=(1.0, 1.0, 0.1))
    step = (await first_step(world, Params(n=4, acceptance_threshold=threshold))).step
    assert (step.outcome, step.token_ids) == (Outcome.RESAMPLED, (2,))
    assert step.rejected is not None
    assert step.rejected.tilted_reward == step.rejected.log_likelihood_target == -math.inf


async def test_rewards_that_are_all_nan_still_give_a_step() -> None:
    """Draft and target candidates all rank last, so the target's are drawn from evenly."""
    world = replace(WORLD, reward=(math.nan,) * 3)
    step = (await first_step(world, Params(n=4))).step
    assert step.outcome is Outcome.RESAMPLED
    assert math.isnan(step.reward)
    assert step.best_reward == -math.inf


SEVERAL = {"particle-filter", "speculative-rejection"}  # keep several candidates of a round, whose first leads it
CHOOSING = [name for name, method in METHODS.items() if method.asks_rewards(Params()) and name not in SEVERAL]


@pytest.mark.parametrize("method", CHOOSING)
async def test_a_candidate_whose_reward_is_nan_is_not_kept_beside_one_that_has_a_reward(method: str) -> None:
    """However likely both models find it."""
    world = replace(WORLD, reward=(math.nan, 0.01, math.nan))
    for seed in range(100):
        made = await first_step(world, Params(method=method, n=4, acceptance_threshold=-1e6), seed)
        rewards = made.by(made.step.source)[0].scores["prm"]
        assert made.step.reward == 0.01 or all(map(math.isnan, rewards))


@given(st.sampled_from(sorted(METHODS)), st.integers(0, 2**63 - 1), st.integers(1, 5), st.integers(1, 5))
async def test_a_step_is_a_function_of_trajectory_params_and_seed(
    method: str, seed: int, n: int, n_target: int
) -> None:
    """Asked twice, in whatever order, it is the same step; n = 1 and n != n_target are nothing special."""
    params = Params(method=method, n=n, n_target=n_target)
    assert (await first_step(WORLD, params, seed)).step == (await first_step(WORLD, params, seed)).step


async def test_draft_and_target_draw_from_seeds_of_their_own() -> None:
    """Two equal models do not write the same candidates, or a rejected step would only come back."""
    world = replace(WORLD, target=WORLD.draft)
    made = [await first_step(world, Params(n=4, acceptance_threshold=1e6), seed) for seed in range(20)]
    same = [m for m in made if m.by(Source.DRAFT)[0].candidates == m.by(Source.TARGET)[0].candidates]
    assert len(same) < 5


async def test_neighbouring_steps_and_jobs_draw_different_candidates() -> None:
    """The index of the step and the job's seed are both part of the draw."""
    here = await run_step(START, replace(ACCEPT_ALL, n=32), WORLD.ports(), 1)
    later = await run_step(START.extend(here.step), replace(ACCEPT_ALL, n=32), WORLD.ports(), 1)
    elsewhere = await run_step(START, replace(ACCEPT_ALL, n=32), WORLD.ports(), 2)
    assert len({made.proposals[0].candidates for made in (here, later, elsewhere)}) == 3
    assert (here.step.index, later.step.index) == (0, 1)


async def test_every_selection_draws_a_number_of_its_own() -> None:
    """Or the same rank would win at every step, in both phases and in every job."""
    model = Numbered(WORLD, WORLD.draft)
    ports = replace(WORLD.ports(), draft=model, target=model)
    selected = []
    for role in Source:
        first = (await best_of_n.run_soft_step(START, Params(n=256, role=role), ports, 1)).step
        second = (await best_of_n.run_soft_step(START.extend(first), Params(n=256, role=role), ports, 1)).step
        elsewhere = (await best_of_n.run_soft_step(START, Params(n=256, role=role), ports, 2)).step
        selected += [step.token_ids for step in (first, second, elsewhere)]
    assert len(set(selected)) == 6


async def test_a_step_takes_as_long_as_its_proposals_one_after_the_other() -> None:
    """Within a proposal the parts run side by side, so the longest of them counts."""
    made = await first_step(WORLD, REJECT_ALL)
    drafted, anew = made.by(Source.DRAFT)[0].seconds, made.by(Source.TARGET)[0].seconds
    assert made.seconds == max(drafted.values()) + max(anew.values())
