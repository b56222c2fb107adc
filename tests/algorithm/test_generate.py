"""The loop: its ends, what it hands to its caller, and resumption."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Message, Step, Trajectory
from gsi.algorithm.generate import are_equal_texts, find_boxed_answer, generate
from gsi.algorithm.method import Answers, Method, lift
from gsi.algorithm.methods import METHODS
from gsi.algorithm.methods.gsi import run_step
from gsi.algorithm.params import Params, SamplingParams, StopRules
from gsi.algorithm.ports import NoRoomError, Ports, ScoreBatches, TextBatches
from gsi.algorithm.round import NewStep, Round
from gsi.algorithm.stopping import StopReason
from tests.algorithm.worlds import START, EnumerableModel, World

MAX_LENGTH = 1000

# Both outcomes occur, every prefix has its own laws, and one step in ten or so is the last.
WORLD = World(
    draft=(0.4, 0.3, 0.2, 0.1),
    target=(0.1, 0.2, 0.5, 0.2),
    reward=(0.2, 0.5, 0.9, 0.4),
    turns=True,
    ends=frozenset({3}),
)
ENDLESS = replace(WORLD, ends=frozenset())
SEARCHES = {"majority-vote", "beam-search", "particle-filter", "dvts"}
STEPWISE = sorted(set(METHODS) - SEARCHES)  # keep one trajectory


@dataclass
class Kept:
    """Where a caller stores the steps."""

    steps: list[Step] = field(default_factory=list)

    async def __call__(self, made: Round) -> None:
        self.steps.append(made.step)


async def run(world: World, params: Params, seed: int = 1, start: Trajectory = START) -> tuple[Trajectory, StopReason]:
    return await generate(start, params, world.ports(), seed, keep=Kept(), max_length=MAX_LENGTH)


async def test_eos_ends_the_answer() -> None:
    """Nothing is written after it."""
    answer, reason = await run(WORLD, Params(n=4))
    assert reason is StopReason.EOS
    assert [step.token_ids[0] in WORLD.ends for step in answer.steps] == [False] * (len(answer.steps) - 1) + [True]


async def test_an_answer_ends_it() -> None:
    """The caller says what an answer is."""
    answer, reason = await generate(
        START,
        Params(n=4),
        ENDLESS.ports(),
        1,
        keep=Kept(),
        max_length=MAX_LENGTH,
        answers=Answers(lambda text: "c" if text.count("c") == 2 else None, are_equal_texts),
    )
    assert reason is StopReason.ANSWER
    assert answer.text.endswith("c")
    assert answer.text.count("c") == 2


async def test_a_reward_that_no_candidate_reaches_ends_it_after_that_step() -> None:
    """The step is kept: it says what went wrong."""
    answer, reason = await run(ENDLESS, Params(n=4, stop=StopRules(reward_floor=0.95)))
    assert (reason, len(answer.steps)) == (StopReason.LOW_REWARD, 1)


async def test_the_number_of_steps_ends_it() -> None:
    """Not one more."""
    answer, reason = await run(ENDLESS, Params(n=4, stop=StopRules(max_steps=7)))
    assert (reason, len(answer.steps)) == (StopReason.MAX_STEPS, 7)


@pytest.mark.parametrize(("max_tokens", "max_length"), [(6, MAX_LENGTH), (4096, 7)])
async def test_tokens_end_it_by_the_jobs_limit_or_the_models_context(max_tokens: int, max_length: int) -> None:
    """The prompt is one token here, so both leave room for six."""
    params = Params(n=4, stop=StopRules(max_tokens=max_tokens))
    answer, reason = await generate(START, params, ENDLESS.ports(), 1, keep=Kept(), max_length=max_length)
    assert (reason, answer.num_step_tokens) == (StopReason.MAX_TOKENS, 6)


async def test_a_finished_trajectory_is_returned_as_it_is() -> None:
    """A job that is taken up after its last step asks no model for anything."""
    finished, reason = await run(WORLD, Params(n=4))
    kept = Kept()
    again = await generate(finished, Params(n=4), WORLD.ports(), 1, keep=kept, max_length=MAX_LENGTH)
    assert again == (finished, reason)
    assert kept.steps == []


@given(st.sampled_from(STEPWISE), st.integers(0, 2**63 - 1), st.data())
async def test_resuming_from_any_prefix_writes_the_same_answer(method: str, seed: int, data: st.DataObject) -> None:
    """A crash costs time, never a different answer."""
    params = Params(method=method, n=3, beta=2.0, stop=StopRules(max_steps=8))
    whole, reason = await run(WORLD, params, seed)
    cut = data.draw(st.integers(0, len(whole.steps)), label="steps kept before the crash")
    assert await run(WORLD, params, seed, START.extend(*whole.steps[:cut])) == (whole, reason)


async def test_different_seeds_write_different_answers() -> None:
    """Or it would be no wonder that a resumed job writes the same."""
    params = Params(n=3, beta=2.0, stop=StopRules(max_steps=8))
    assert len({(await run(ENDLESS, params, seed))[0].text for seed in range(20)}) > 10


async def test_every_step_is_kept_before_the_next_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has stored is exactly what the next step was made from."""
    kept = Kept()

    async def watched(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
        assert trajectory.steps == tuple(kept.steps)
        return await run_step(trajectory, params, ports, seed)

    method = Method(name="watched", summary="", source="", make_round=lift(watched))
    monkeypatch.setitem(METHODS, method.name, method)
    params = Params(method=method.name, n=4, stop=StopRules(max_steps=5))
    answer, _ = await generate(START, params, ENDLESS.ports(), 1, keep=kept, max_length=MAX_LENGTH)
    assert answer.steps == tuple(kept.steps)
    assert [step.index for step in answer.steps] == [0, 1, 2, 3, 4]


async def test_a_step_that_cannot_be_kept_ends_the_run_with_that_error() -> None:
    """A coordinator that lost its lease must not write on."""
    kept = Kept()

    async def keep_two(made: Round) -> None:
        if len(kept.steps) == 2:
            raise ConnectionError("the lease is lost")
        await kept(made)

    with pytest.raises(ConnectionError, match="lease"):
        await generate(START, Params(n=4), ENDLESS.ports(), 1, keep=keep_two, max_length=MAX_LENGTH)
    assert len(kept.steps) == 2


@pytest.mark.parametrize(("max_tokens", "max_length"), [(4, MAX_LENGTH), (4096, 5)])
async def test_no_candidate_may_pass_the_jobs_limit_or_the_models_context(max_tokens: int, max_length: int) -> None:
    """Each engine is told the least of the step's limit, the job's tokens left and the context left."""
    draft, target = EnumerableModel(ENDLESS, ENDLESS.draft), EnumerableModel(ENDLESS, ENDLESS.target)
    ports = replace(ENDLESS.ports(), draft=draft, target=target)
    params = Params(
        n=2,
        acceptance_threshold=1e6,
        sampling=SamplingParams(max_step_tokens=3),
        stop=StopRules(max_tokens=max_tokens),
    )
    await generate(START, params, ports, 1, keep=Kept(), max_length=max_length)
    assert draft.step_token_limits == target.step_token_limits == [3, 3, 2, 1]


@pytest.mark.parametrize(
    ("text", "is_answer"),
    [
        (r"So it is \boxed{5}.", True),
        (r"\boxed{\frac{1}{2}}", True),
        (r"\boxed{", False),
        ("5", False),
    ],
)
def test_an_answer_is_boxed_unless_the_job_says_otherwise(text: str, is_answer: bool) -> None:
    r"""A ``\boxed{…}`` that is closed, with one level of braces inside."""
    assert (find_boxed_answer(text) is not None) is is_answer


@dataclass
class ShortPrm:
    """A PRM that has room for so many steps."""

    world: World
    room: int

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        if len(steps) >= self.room:
            raise NoRoomError(f"{len(steps) + 1} steps; allowed: {self.room}")
        async for batch in self.world.ports().prm.score(messages, steps, candidates):
            yield batch


@pytest.mark.parametrize("method", ["gsi", "rsd", "soft-best-of-n", "best-of-n", "beam-search"])
async def test_an_answer_that_the_prm_has_no_room_for_ends_with_its_steps(method: str) -> None:
    """The round in vain is not part of it, and a run that resumes after the last step ends at the same place."""
    ports, kept = replace(ENDLESS.ports(), prm=ShortPrm(ENDLESS, room=3)), Kept()
    params = Params(n=4, method=method)
    answer, reason = await generate(START, params, ports, 1, keep=kept, max_length=MAX_LENGTH)
    assert (reason, len(answer.steps)) == (StopReason.MAX_TOKENS, 3)
    if method in STEPWISE:
        again = await generate(answer, params, ports, 1, keep=kept, max_length=MAX_LENGTH)
        assert again == (answer, reason)
    assert len(kept.steps) == 3


async def test_a_prm_without_room_for_the_first_step_is_an_error() -> None:
    """There is no answer to end."""
    ports = replace(ENDLESS.ports(), prm=ShortPrm(ENDLESS, room=0))
    with pytest.raises(NoRoomError, match="1 steps; allowed: 0"):
        await generate(START, Params(n=4), ports, 1, keep=Kept(), max_length=MAX_LENGTH)
