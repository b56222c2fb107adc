"""Worlds small enough to enumerate: a handful of steps with explicit pi_S, pi_B and r, served through the real ports.

Step y is one token, id y, and its text is a letter. Candidate i is drawn by ``seeds.uniform(seed, i)``.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Prompt, Score, Source, Trajectory
from gsi.algorithm.judging import Question
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, Ports, ScoreBatches, TextBatches, TokenBatches
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import uniform

T = TypeVar("T")

LETTERS = "abcdefgh"
PROMPT = Prompt(messages=(Message("user", "Which letter comes next?"),), token_ids=(100,))
START = Trajectory(PROMPT)
NUM_QUESTION_TOKENS = 5


def log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


@dataclass(frozen=True)
class World:
    """``draft[y]`` is pi_S(y | x), ``target[y]`` is pi_B(y | x), ``reward[y]`` is r(x, y).

    ``says`` has, by model, the probabilities of a question's labels about each step y; without them a model says the
    highest label with probability r(x, y), and else the lowest. In a world that ``turns`` the tables move on by one
    place with every step, so that the prefix matters.
    """

    draft: Sequence[float]
    target: Sequence[float]
    reward: Sequence[float]
    turns: bool = False
    ends: frozenset[int] = frozenset()  # steps that are the end of the sequence
    says: Mapping[Source, Sequence[Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert math.isclose(sum(self.draft), 1)
        assert math.isclose(sum(self.target), 1)
        assert len(self.draft) == len(self.target) == len(self.reward)

    @property
    def steps(self) -> range:
        return range(len(self.reward))

    def ports(self) -> Ports:
        """Return the world's three models."""
        draft = EnumerableModel(self, self.draft, self.says.get(Source.DRAFT))
        target = EnumerableModel(self, self.target, self.says.get(Source.TARGET))
        return Ports(draft, target, EnumerablePrm(self), {Source.DRAFT: draft, Source.TARGET: target})

    def after(self, table: Sequence[T], num_steps: int) -> Sequence[T]:
        """Return a table as it stands after ``num_steps`` steps."""
        turn = num_steps % len(table) if self.turns else 0
        return [*table[turn:], *table[:turn]]


async def make_first_round(params: Params, ports: Ports, seed: int = 1, start: Trajectory = START) -> Round:
    """Make a job's first round by its method, as the loop does."""
    method = METHODS[params.method]
    population = method.start(start, params)
    growing = [Unfinished(place, trajectory, params) for place, trajectory in enumerate(population)]
    return await method.make_round(population, growing, ports, seed)


@dataclass
class EnumerableModel:
    """A language model over the steps of a world. It writes down the limits that it was asked to keep."""

    world: World
    law: Sequence[float]
    says: Sequence[Sequence[float]] | None = None
    step_token_limits: list[int] = field(default_factory=list)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self.step_token_limits.append(sampling.max_step_tokens)
        law = self._after(prefix)
        ends = list(accumulate(law))
        last = max(y for y in self.world.steps if law[y] > 0)
        yield [self._candidate(i, min(bisect_right(ends, uniform(seed, i)), last), law) for i in range(n)]

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        law = self._after(prefix)
        async for batch in candidates:
            yield [Score(candidate.index, log(law[candidate.token_ids[0]])) for candidate in batch]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        num_steps = len(prefix) - len(PROMPT.token_ids) - 1
        if self.says is not None:
            return LabelProbabilities(tuple(self.world.after(self.says, num_steps)[prefix[-1]]), NUM_QUESTION_TOKENS)
        r = self.world.after(self.world.reward, num_steps)[prefix[-1]]
        nothing = (0.0,) * (len(question.labels) - 2)
        return LabelProbabilities((1 - r, *nothing, r), NUM_QUESTION_TOKENS)

    def _after(self, prefix: Sequence[int]) -> Sequence[float]:
        return self.world.after(self.law, len(prefix) - len(PROMPT.token_ids))

    def _candidate(self, index: int, y: int, law: Sequence[float]) -> Candidate:
        finish_reason = FinishReason.EOS if y in self.world.ends else FinishReason.DELIMITER
        return Candidate(index, (y,), LETTERS[y], log(law[y]), finish_reason)


@dataclass
class EnumerablePrm:
    """The reward model of a world."""

    world: World

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        reward = self.world.after(self.world.reward, len(steps))
        async for batch in candidates:
            yield [Score(candidate.index, reward[LETTERS.index(candidate.text)]) for candidate in batch]


class Unasked:
    """A model that must not be asked."""

    def propose(self, *_: Any) -> Any:
        raise AssertionError("it was asked to propose")

    def score(self, *_: Any) -> Any:
        raise AssertionError("it was asked to score")

    async def judge(self, *_: Any) -> LabelProbabilities:
        raise AssertionError("it was asked to judge")
