"""Models small enough to read: a table of the steps they know. The real ones answer through the same ports."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Prompt, Score, Source, Trajectory
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, Ports, ScoreBatches, TextBatches, TokenBatches
from gsi.algorithm.seeds import uniform

QUESTION = "What is 2 + 3?"
START = Trajectory(Prompt((Message("user", QUESTION),), tuple(map(ord, QUESTION))))


@dataclass
class TinyModel:
    """A language model that writes each of its steps with a fixed probability. Its tokens are characters.

    A step that ends in a blank line is followed by another; any other is the last.
    """

    steps: Mapping[str, float]

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        texts, ends = list(self.steps), list(accumulate(self.steps.values()))
        for i in range(n):
            text = texts[bisect_right(ends, uniform(seed, i) * ends[-1])]
            yield [candidate(i, text, math.log(self.steps[text]))]

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(c.index, self._log_likelihood(c.token_ids)) for c in batch]

    def _log_likelihood(self, token_ids: Sequence[int]) -> float:
        probability = self.steps.get("".join(map(chr, token_ids)), 0.0)
        return math.log(probability) if probability > 0 else -math.inf


@dataclass
class TinyJudge:
    """A language model that says the highest label of a step with the probability given here, and else the lowest."""

    beliefs: Mapping[str, float]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        written = "".join(map(chr, prefix))
        p = next(belief for step, belief in self.beliefs.items() if written.endswith(step))
        return LabelProbabilities((1 - p, *(0.0 for _ in question.labels[2:]), p), num_tokens=len(question.text))


@dataclass
class TinyPrm:
    """A process reward model that knows how good each step is."""

    rewards: Mapping[str, float]

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(c.index, self.rewards[c.text]) for c in batch]


def candidate(index: int, text: str, log_likelihood: float) -> Candidate:
    finish_reason = FinishReason.DELIMITER if text.endswith("\n\n") else FinishReason.EOS
    return Candidate(index, tuple(map(ord, text)), text, log_likelihood, finish_reason)


GOOD, BAD, ANSWER = "2 + 3 = 5\n\n", "2 + 3 = 6\n\n", "It is \\boxed{5}."

# The draft is often wrong, the target seldom, and the PRM knows.
DRAFT = TinyModel({GOOD: 0.4, BAD: 0.4, ANSWER: 0.2})
TARGET = TinyModel({GOOD: 0.7, BAD: 0.1, ANSWER: 0.2})
PRM = TinyPrm({GOOD: 0.8, BAD: 0.1, ANSWER: 0.9})
# The draft is sure of what is right, and unsure of what is wrong; the target sees the mistake.
JUDGES = {
    Source.DRAFT: TinyJudge({GOOD: 0.95, BAD: 0.6, ANSWER: 0.99}),
    Source.TARGET: TinyJudge({GOOD: 0.9, BAD: 0.2, ANSWER: 0.9}),
}
TINY = Ports(DRAFT, TARGET, PRM, JUDGES)
