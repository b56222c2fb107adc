"""Lookahead changes when the draft writes, and nothing else: not the answers, not the records, not the errors."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gsi.algorithm.candidates import Outcome, Source, Trajectory
from gsi.algorithm.generate import Attempt, call_once, generate
from gsi.algorithm.lookahead import Fate, Lookahead
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, Preset, SamplingParams, StopRules
from gsi.algorithm.parts import run_all
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason
from tests.algorithm.worlds import START, World

# Both outcomes occur, every prefix has its own laws, and one step in ten or so is the last.
WORLD = World(
    draft=(0.4, 0.3, 0.2, 0.1),
    target=(0.1, 0.2, 0.5, 0.2),
    reward=(0.2, 0.5, 0.9, 0.4),
    turns=True,
    ends=frozenset({3}),
)
MAX_LENGTH = 1000
ALWAYS = Params(n=4, acceptance_threshold=-1e6)
SOMETIMES = Params(n=4, beta=2.0, acceptance_threshold=0.6)
NEVER = Params(n=4, acceptance_threshold=1e6)


@dataclass
class Slow:
    """A world whose scores come one by one, in an order of their own; it counts and closes the draft's calls."""

    world: World = WORLD
    calls: int = 0
    closed: int = 0
    fail: Callable[[int], None] = lambda _: None  # is told the number of the draft's call

    def __post_init__(self) -> None:
        self._own = self.world.ports()
        self.ports = Ports(_Draft(self, self._own.draft), _OneByOne(self._own.target, 1), _OneByOne(self._own.prm, 3))


class _Draft:
    def __init__(self, slow: Slow, own: Any) -> None:
        self._slow, self._own = slow, own

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self._slow.calls += 1
        number = self._slow.calls
        try:
            async with aclosing(self._own.propose(prefix, n, sampling, seed)) as batches:
                async for batch in batches:
                    for candidate in batch:
                        await asyncio.sleep(0)
                        self._slow.fail(number)
                        yield [candidate]
        finally:
            self._slow.closed += 1


class _OneByOne:
    def __init__(self, own: Any, rounds: int) -> None:
        self._own, self._rounds = own, rounds

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        batches: CandidateBatches = self._own.propose(prefix, n, sampling, seed)
        return batches

    async def score(self, *arguments: Any, **named: Any) -> ScoreBatches:
        """Yield what the model says one by one, the last candidate first, with pauses in between."""
        scores = [score async for batch in self._own.score(*arguments, **named) for score in batch]
        for score in reversed(scores):
            for _ in range(self._rounds):
                await asyncio.sleep(0.0002)
            yield [score]


@dataclass
class Written:
    """An answer with everything that is recorded of it, except times."""

    answer: Trajectory = START
    reason: StopReason | None = None
    rounds: list[Any] = field(default_factory=list)

    async def keep(self, made: Round) -> None:
        proposals = [replace(proposal, seconds={}, first_seconds=0.0) for proposal in made.proposals]
        self.rounds.append((made.branches, proposals, list(made.tilted_rewards)))


async def write(
    slow: Slow,
    params: Params,
    seed: int,
    lookahead: Lookahead | None = None,
    attempt: Attempt = call_once,
) -> Written:
    written = Written()
    written.answer, written.reason = await generate(
        START,
        params,
        slow.ports,
        seed,
        keep=written.keep,
        max_length=MAX_LENGTH,
        lookahead=lookahead,
        attempt=attempt,
    )
    return written


def counting(*, has_room: bool = True) -> tuple[Lookahead, Counter[Fate]]:
    fates: Counter[Fate] = Counter()

    def note(fate: Fate) -> None:
        fates[fate] += 1

    return Lookahead(lambda: has_room, note), fates


CASES = {
    "every candidate passes": ALWAYS,
    "some steps are resampled": SOMETIMES,
    "every step is resampled": NEVER,
    "the authors' test": replace(SOMETIMES, preset=Preset.AUTHORS),
    "no test": replace(SOMETIMES, method="gsi-no-rejection"),
    "one candidate": replace(SOMETIMES, n=1),
    "few tokens": replace(SOMETIMES, stop=StopRules(max_tokens=3)),
    "few steps": replace(SOMETIMES, stop=StopRules(max_steps=2)),
    "low rewards end it": replace(SOMETIMES, stop=StopRules(reward_floor=0.45)),
    "low rewards end it before": replace(SOMETIMES, stop=StopRules(reward_floor=0.45, drops_low_step=True)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("has_room", [True, False])
async def test_answers_and_records_are_those_without_it(case: str, *, has_room: bool) -> None:
    """Forty jobs with and without: same steps, candidates, scores, ends; and each of the draft's calls is closed."""
    lookahead, fates = counting(has_room=has_room)

    async def compare(seed: int) -> None:
        ahead = Slow()
        assert await write(ahead, CASES[case], seed, lookahead) == await write(Slow(), CASES[case], seed)
        assert ahead.closed == ahead.calls

    await run_all([compare(seed) for seed in range(40)])
    assert bool(fates[Fate.KEPT]) == (CASES[case] != NEVER)


async def test_every_draft_that_is_kept_saves_a_call() -> None:
    """The draft's calls are those without lookahead, and one more for each draft that was wasted."""
    lookahead, fates = counting()
    slow = Slow()
    written = await run_all([write(slow, SOMETIMES, seed, lookahead) for seed in range(40)])
    assert slow.calls == sum(len(each.rounds) for each in written) + fates[Fate.WASTED]
    assert fates[Fate.KEPT] > fates[Fate.WASTED] > 0


async def test_both_outcomes_occur_in_these_jobs() -> None:
    """Equal answers would prove little if no step were resampled, or none accepted."""
    written = await run_all([write(Slow(), SOMETIMES, seed) for seed in range(40)])
    outcomes = Counter(step.outcome for each in written for step in each.answer.steps)
    assert min(outcomes[Outcome.ACCEPTED], outcomes[Outcome.RESAMPLED]) > 20


async def test_without_room_nothing_is_written_before_all_scores_are_there() -> None:
    """Then the leader is the candidate that is drawn, and no draft is wasted."""
    lookahead, fates = counting(has_room=False)
    await run_all([write(Slow(), SOMETIMES, seed, lookahead) for seed in range(40)])
    assert fates[Fate.KEPT] > 0
    assert fates[Fate.WASTED] == 0


async def test_a_rejected_leader_lets_the_draft_write_nothing() -> None:
    """The target writes every step, and nobody knows yet which."""
    lookahead, fates = counting()
    slow = Slow()
    written = await write(slow, NEVER, 1, lookahead)
    assert {step.source for step in written.answer.steps} == {Source.TARGET}
    assert not fates
    assert slow.calls == len(written.rounds)


class AwayError(Exception):
    """What a draft raises that is away for a moment."""


async def test_an_error_of_a_draft_that_was_written_ahead_is_nobody_s() -> None:
    """A call ahead that has failed is made again by its step; one that fails while its step reads it fails the step."""

    def fail_at(call: int) -> Callable[[int], None]:
        def fail(number: int) -> None:
            if number == call:
                raise AwayError

        return fail

    async def again(make: Callable[[], Awaitable[Round]]) -> Round:
        try:
            return await make()
        except AwayError:
            return await make()

    lookahead, _ = counting()
    for call in range(2, 9):
        slow = Slow(fail=fail_at(call))
        assert await write(slow, ALWAYS, 7, lookahead, again) == await write(Slow(), ALWAYS, 7)
        assert slow.closed == slow.calls


async def test_a_job_that_is_cancelled_leaves_no_call_behind() -> None:
    """Neither of its step nor of the step ahead."""
    lookahead, _ = counting()
    for delay in (0.001, 0.003, 0.005, 0.008):
        slow = Slow()
        job = asyncio.create_task(write(slow, ALWAYS, 3, lookahead))
        await asyncio.sleep(delay)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert slow.closed == slow.calls


def test_only_methods_that_ask_both_scorers_have_a_leader() -> None:
    """A leader is found when a candidate has both scores."""
    leading = {name for name, method in METHODS.items() if method.find_leader}
    assert leading == {"gsi", "gsi-no-rejection"}
    assert all(METHODS[name].models(Params(method=name)) >= {"draft", "target", "prm"} for name in leading)
