"""The loop with methods that keep several trajectories."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Message, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, ParticleChoice, ParticleWeights, SamplingParams, Scope, StopRules
from gsi.algorithm.parts import run_all
from gsi.algorithm.ports import ScoreBatches, TextBatches
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason, stop_reason
from gsi.jobs.step_record import StepRecord
from tests.algorithm.searching import (
    ENDLESS,
    MAX_LENGTH,
    READ,
    UNREAD,
    WORLD,
    Hanging,
    ModelBrokeError,
    Written,
    trajectory,
    write,
)
from tests.algorithm.worlds import START, EnumerableModel, World

pytestmark = pytest.mark.timeout(60)  # a search that waits for itself hangs

SEARCHES = (
    "best-of-n",
    "soft-best-of-n",
    "gsi-no-rejection",
    "majority-vote",
    "beam-search",
    "dvts",
    "speculative-rejection",
)
NUM_TRAJECTORIES = {
    "majority-vote": 6,
    "particle-filter": 6,
    "dvts": 2,
    "confidence-vote": 6,
    "speculative-rejection": 6,
}  # of n = 6
SEARCHING = [Params(method=method, scope=Scope.RESPONSES, n=6, beta=2.0) for method in SEARCHES]
GSI_OVER_RESPONSES = Params(scope=Scope.RESPONSES, n=3, beta=2.0)  # some of its places may stay empty
PARTICLES = [
    Params(
        method="particle-filter", n=6, beta=2.0, particle_weights=weights, resample_below=share, particle_choice=choice
    )
    for weights in ParticleWeights
    for share, choice in ((1.0, ParticleChoice.SAMPLE), (0.5, ParticleChoice.HIGHEST))
]
EVERY_METHOD = [
    *(Params(method=method, n=3, beta=2.0) for method in METHODS),
    *SEARCHING,
    GSI_OVER_RESPONSES,
    *PARTICLES,
    Params(method="confidence-vote", n=8),  # four responses after the warm-up
]


def written_down(written: Written, *, keep_candidates: bool = False) -> list[str]:
    return [StepRecord.from_round(made, keep_candidates=keep_candidates).to_json() for made in written.rounds]


def without_seconds(rounds: list[str]) -> list[dict[str, Any]]:
    return [{name: value for name, value in json.loads(text).items() if name != "seconds"} for text in rounds]


@given(st.sampled_from(EVERY_METHOD), st.integers(0, 2**63 - 1), st.data())
async def test_resuming_after_any_round_writes_the_same_answer(params: Params, seed: int, data: st.DataObject) -> None:
    """A crash costs time, never a different answer; what is resumed from has been through JSON."""
    params = replace(params, stop=StopRules(max_steps=5))
    whole = await write(params, WORLD.ports(), seed)
    rounds = written_down(whole)
    cut = data.draw(st.integers(0, len(rounds)), label="rounds kept before the crash")
    kept = [StepRecord.from_json(text).to_branches() for text in rounds[:cut]]
    again = await write(params, WORLD.ports(), seed, kept=kept)
    assert (again.answer.text, again.reason) == (whole.answer.text, whole.reason)
    assert without_seconds(written_down(again)) == without_seconds(rounds[cut:])


@pytest.mark.parametrize("params", SEARCHING)
async def test_different_seeds_write_different_answers(params: Params) -> None:
    """Or it would be no wonder that a resumed job writes the same."""
    params = replace(params, n=4, stop=StopRules(max_steps=5))
    world = replace(ENDLESS, reward=(0.5,) * 4)  # or the best answer would often be the same
    assert len({(await write(params, world.ports(), seed, answers=UNREAD)).answer.text for seed in range(20)}) > 10


@given(
    st.sampled_from(SEARCHING),
    st.integers(0, 1000),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(2, 6),
    st.one_of(st.none(), st.floats(0.3, 0.95)),
)
async def test_every_trajectory_ends_where_a_single_one_would(
    params: Params, seed: int, max_steps: int, max_tokens: int, max_length: int, reward_floor: float | None
) -> None:
    """End of sequence, an answer, a low reward, steps, tokens and context: each trajectory by itself."""
    floor = None if params.method == "majority-vote" else reward_floor
    params = replace(params, stop=StopRules(max_steps, max_tokens, floor))
    written = await write(params, WORLD.ports(), seed, max_length=max_length)

    def reason(one: Trajectory) -> StopReason | None:
        return stop_reason(one, params.stop, lambda text: READ.find(text) is not None, max_length)

    for one in written.populations(params)[-1]:
        assert reason(one) is not None
        assert [reason(START.extend(*one.steps[:k])) for k in range(len(one.steps))] == [None] * len(one.steps)
    assert written.reason == reason(written.answer)


@pytest.mark.parametrize("params", SEARCHING)
@pytest.mark.parametrize(("max_tokens", "max_length"), [(4, MAX_LENGTH), (4096, 5)])
async def test_no_candidate_may_pass_the_jobs_limit_or_the_models_context(
    params: Params, max_tokens: int, max_length: int
) -> None:
    """Every proposal of a round is told what its own trajectory has left."""
    draft = EnumerableModel(ENDLESS, ENDLESS.draft)
    params = replace(params, sampling=SamplingParams(max_step_tokens=3), stop=StopRules(max_tokens=max_tokens))
    written = await write(params, replace(ENDLESS.ports(), draft=draft), max_length=max_length, answers=UNREAD)
    assert draft.step_token_limits == sorted(draft.step_token_limits, reverse=True)
    assert set(draft.step_token_limits) == {3, 2, 1}
    assert [one.num_step_tokens for one in written.populations(params)[-1]] == [4] * len(written.rounds[-1].branches)


async def test_finished_trajectories_wait_unchanged_for_the_others() -> None:
    """They are carried on without a step, and no model is asked to continue them."""
    params = Params(method="majority-vote", n=8, stop=StopRules(max_steps=4))
    written = await write(params, WORLD.ports(), seed=3)
    populations = written.populations(params)
    carried = 0
    for before, made, after in zip(populations, written.rounds, populations[1:], strict=False):
        asked = {proposal.parent for proposal in made.proposals}
        for place, branch in enumerate(made.branches):
            if branch.step is None:
                carried += 1
                assert after[place] == before[branch.parent]
                assert place not in asked
    assert carried > 0


@pytest.mark.parametrize("params", SEARCHING)
async def test_a_search_that_is_over_asks_no_model(params: Params) -> None:
    """A job that is taken up after its last round only chooses."""
    whole = await write(params, WORLD.ports())
    again = await write(params, WORLD.ports(), kept=[made.branches for made in whole.rounds])
    assert (again.answer, again.reason, again.rounds) == (whole.answer, whole.reason, [])


@pytest.mark.parametrize("params", EVERY_METHOD)
async def test_a_round_that_failed_for_the_moment_is_made_again_by_the_caller(params: Params) -> None:
    """``attempt`` may call twice: the second call is the same round, and nothing of the first is kept."""
    params = replace(params, stop=StopRules(max_steps=3))
    whole = await write(params, WORLD.ports(), seed=5)
    again = Written()

    async def twice(make: Callable[[], Awaitable[Round]]) -> Round:
        await make()
        return await make()

    again.answer, again.reason = await generate(
        START, params, WORLD.ports(), 5, keep=again.keep, max_length=MAX_LENGTH, answers=READ, attempt=twice
    )
    assert (again.answer.text, again.reason) == (whole.answer.text, whole.reason)
    assert without_seconds(written_down(again)) == without_seconds(written_down(whole))


async def test_every_round_is_kept_before_the_next_is_begun() -> None:
    """A coordinator that lost its lease must not write on."""
    written = Written()

    async def keep_two(made: Round) -> None:
        if len(written.rounds) == 2:
            raise ConnectionError("the lease is lost")
        await written.keep(made)

    draft = EnumerableModel(ENDLESS, ENDLESS.draft)
    ports = replace(ENDLESS.ports(), draft=draft)
    params = Params(method="beam-search", n=4)
    with pytest.raises(ConnectionError, match="lease"):
        await generate(START, params, ports, 1, keep=keep_two, max_length=MAX_LENGTH, answers=UNREAD)
    assert len(written.rounds) == 2
    begun = 1 + sum(len(made.branches) for made in written.rounds)  # a proposal a beam, and the first one
    assert len(draft.step_token_limits) == begun


# --- A round that is stopped --------------------------------------------------------------------------------------

POPULATION = tuple(trajectory((letter, 0.5)) for letter in "abc")


def growing(params: Params) -> list[Unfinished]:
    return [Unfinished(place, one, params) for place, one in enumerate(POPULATION)]


@pytest.mark.parametrize("params", SEARCHING)
async def test_a_cancelled_round_stops_every_proposal(params: Params) -> None:
    """A job that is cancelled leaves no engine at work."""
    draft, method = Hanging(), METHODS[params.method]
    ports = replace(WORLD.ports(), draft=draft)
    task = asyncio.ensure_future(method.make_round(POPULATION, growing(params), ports, 1))
    await draft.hangs(len(POPULATION))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (draft.begun, draft.stopped) == (3, 3)


@pytest.mark.parametrize("params", SEARCHING)
async def test_a_proposal_that_fails_stops_the_others_and_its_error_is_raised(params: Params) -> None:
    """Not a group of errors: the coordinator waits for the service that the error names."""
    draft, method = Hanging(POPULATION[1].token_ids, num_begun=2), METHODS[params.method]
    ports = replace(WORLD.ports(), draft=draft)
    with pytest.raises(ModelBrokeError):
        await method.make_round(POPULATION, growing(params), ports, 1)
    assert (draft.begun, draft.stopped) == (2, 2)


@pytest.mark.parametrize("params", [params for params in SEARCHING if params.method != "majority-vote"])
async def test_a_prm_that_fails_for_one_trajectory_stops_the_others(params: Params) -> None:
    """The error comes out of a group within a group, and is still itself."""
    draft = Hanging()

    class BrokenPrm:
        async def score(
            self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches
        ) -> ScoreBatches:
            async for _ in candidates:
                await draft.hangs(3)
                raise ModelBrokeError
            yield []

    ports = replace(WORLD.ports(), draft=draft, prm=BrokenPrm())
    with pytest.raises(ModelBrokeError):
        await METHODS[params.method].make_round(POPULATION, growing(params), ports, 1)
    assert draft.stopped == 3


async def test_what_is_done_side_by_side_comes_back_in_order() -> None:
    """Whichever is finished first."""
    second_is_done = asyncio.Event()

    async def first() -> int:
        await second_is_done.wait()
        return 1

    async def second() -> int:
        second_is_done.set()
        return 2

    assert await run_all([first(), second()]) == [1, 2]


# --- Which population ---------------------------------------------------------------------------------------------


def test_a_population_starts_with_one_trajectory_or_with_n() -> None:
    """A method that has a scope does both: its scope says which. No other method looks at the scope."""
    with_scope = {name for name, method in METHODS.items() if "scope" in method.parameters}
    for name in with_scope:
        assert METHODS[name].start(START, Params(n=6)) == (START,)
        num_responses = 12 if name == "gsi" else 6  # the draft's and the target's
        assert METHODS[name].start(START, Params(n=6, scope=Scope.RESPONSES)) == (START,) * num_responses
    for name in set(METHODS) - with_scope:
        population = METHODS[name].start(START, Params(n=6, scope=Scope.RESPONSES))
        assert population == METHODS[name].start(START, Params(n=6))
        assert len(population) == NUM_TRAJECTORIES.get(name, 1)


@pytest.mark.parametrize("method", SEARCHES)
async def test_n_1_is_nothing_special(method: str) -> None:
    """One trajectory, one candidate a round: the record is that of a single step."""
    params = Params(method=method, scope=Scope.RESPONSES, n=1, stop=StopRules(max_steps=3))
    written = await write(params, World((1.0,), (1.0,), (0.5,)).ports())
    assert (written.answer.text, written.reason) == ("aaa", StopReason.MAX_STEPS)
    assert all(StepRecord.from_round(made, keep_candidates=False).branches == () for made in written.rounds)
