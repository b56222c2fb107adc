"""What tests of searches share: worlds of several steps, a caller that keeps every round, and ports that hang."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gsi.algorithm.candidates import (
    Branch,
    Candidate,
    FinishReason,
    Outcome,
    Population,
    Source,
    Step,
    Trajectory,
    grow,
)
from gsi.algorithm.generate import are_equal_texts, generate
from gsi.algorithm.lookahead import Lookahead
from gsi.algorithm.method import Answers
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, SamplingParams
from gsi.algorithm.ports import CandidateBatches, Ports
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason
from tests.algorithm.worlds import LETTERS, START, World

MAX_LENGTH = 1000

# Every prefix has its own laws and rewards, and "d" is the end.
WORLD = World(
    draft=(0.4, 0.3, 0.2, 0.1),
    target=(0.1, 0.2, 0.5, 0.2),
    reward=(0.2, 0.5, 0.9, 0.4),
    turns=True,
    ends=frozenset({3}),
)
ENDLESS = replace(WORLD, ends=frozenset())


def first_letter_of_a_finished_text(text: str) -> str | None:
    return text[0] if "d" in text else None


def nothing(text: str) -> None:
    return None


READ = Answers(first_letter_of_a_finished_text, are_equal_texts)
UNREAD = Answers(nothing, are_equal_texts)  # no text has an answer, so none ends by it


@dataclass
class Written:
    """An answer, why it ended, and every round that it came of."""

    answer: Trajectory = START
    reason: StopReason | None = None
    rounds: list[Round] = field(default_factory=list)

    async def keep(self, made: Round) -> None:
        self.rounds.append(made)

    def populations(self, params: Params) -> list[Population]:
        """Return the population before the first round and after each."""
        populations = [METHODS[params.method].start(START, params)]
        for made in self.rounds:
            populations.append(grow(populations[-1], made.branches))
        return populations


async def write(
    params: Params,
    ports: Ports,
    seed: int = 1,
    *,
    kept: Sequence[Sequence[Branch]] = (),
    max_length: int = MAX_LENGTH,
    answers: Answers = READ,
    lookahead: Lookahead | None = None,
) -> Written:
    """Write an answer as the coordinator does, from the kept rounds on."""
    written = Written()
    written.answer, written.reason = await generate(
        START,
        params,
        ports,
        seed,
        keep=written.keep,
        max_length=max_length,
        kept=kept,
        answers=answers,
        lookahead=lookahead,
    )
    return written


def trajectory(*steps: tuple[str, float]) -> Trajectory:
    """Return a trajectory of steps with these texts and rewards."""
    return START.extend(*(a_step(index, text, reward) for index, (text, reward) in enumerate(steps)))


def a_step(index: int, text: str, reward: float) -> Step:
    token_ids = tuple(map(ord, text))
    return Step(
        index, token_ids, text, Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, reward, best_reward=reward
    )


@dataclass
class Listing:
    """A language model whose candidate i is step i modulo the number of steps, so that nothing is left to chance."""

    world: World

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        yield [self._candidate(index, index % len(self.world.steps)) for index in range(n)]

    def _candidate(self, index: int, y: int) -> Candidate:
        finish_reason = FinishReason.EOS if y in self.world.ends else FinishReason.DELIMITER
        return Candidate(index, (y,), LETTERS[y], -1.0, finish_reason)


class ModelBrokeError(Exception):
    """What a broken port raises."""


class Hanging:
    """A draft that writes one candidate and then waits for ever, except behind ``broken_prefix``, where it breaks.

    It counts the proposals that were begun and those that were stopped, and breaks only once ``num_begun`` others hang.
    """

    def __init__(self, broken_prefix: Sequence[int] = (), num_begun: int = 0) -> None:
        self._broken_prefix = tuple(broken_prefix)
        self._num_begun = num_begun
        self._changed = asyncio.Condition()
        self.begun = 0
        self.stopped = 0

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        if tuple(prefix) == self._broken_prefix:
            await self.hangs(self._num_begun)
            raise ModelBrokeError
        yield [Candidate(0, (0,), LETTERS[0], -1.0, FinishReason.DELIMITER)]
        async with self._changed:
            self.begun += 1
            self._changed.notify_all()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped += 1

    async def hangs(self, num_begun: int) -> None:
        """Return once so many proposals hang."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.begun >= num_begun)
