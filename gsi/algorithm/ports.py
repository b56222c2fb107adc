"""What a step needs from the models: three ports, which engines and gRPC clients implement.

A call returns an iterator at once. Iterating it does the work, and closing it stops the work.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gsi.algorithm.candidates import Candidate, Message, Score, Source
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams

# Generators, not iterators: closing a generator stops the engine's work.
CandidateBatches = AsyncGenerator[Sequence[Candidate], None]
ScoreBatches = AsyncGenerator[Sequence[Score], None]


class NoRoomError(Exception):
    """The answer of a PRM or a judge to more than its context holds: prompt, kept steps and a candidate.

    ``room``: how many of the model's tokens are left for a candidate and what is written behind it. A judge does not
    know where the candidate begins, and says how many are left for the whole prefix.
    """

    def __init__(self, message: str, room: int = 0) -> None:
        super().__init__(message)
        self.room = room


class TokenSequence(Protocol):
    """What a likelihood needs of a candidate."""

    @property
    def index(self) -> int: ...
    @property
    def token_ids(self) -> tuple[int, ...]: ...


class StepText(Protocol):
    """What a PRM needs of a candidate."""

    @property
    def index(self) -> int: ...
    @property
    def text(self) -> str: ...


TokenBatches = AsyncGenerator[Sequence[TokenSequence], None]
TextBatches = AsyncGenerator[Sequence[StepText], None]


class Proposer(Protocol):
    """A language model that samples candidate steps (draft and target)."""

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        """Sample n candidates after ``prefix`` (token ids), each with its log-likelihood in nats.

        Yields batches of the candidates that finished since the batch before, in completion order; each index from 0 to
        n - 1 occurs once. The randomness of candidate i comes from (seed, i) only.
        """
        ...


class LikelihoodScorer(Protocol):
    """A language model that returns the likelihood of given candidates (target)."""

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        """Yield log pi(candidate | prefix) in nats for each candidate, in completion order.

        Summed over the candidate's token ids as given, under the distribution that ``sampling`` names.
        """
        ...


class Target(Proposer, LikelihoodScorer, Protocol):
    """The large model: it scores the draft's candidates, and writes the step if they fail."""


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """A judge's answer: the probability of each label, adding up to 1; how many tokens it put behind the prefix."""

    values: tuple[float, ...]
    num_tokens: int


class Judge(Protocol):
    """A language model that answers a question about a step with one token."""

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        """Return how likely each label of the question is as the next token behind ``prefix`` and question.

        ``prefix`` ends with the step in question. The probabilities are the softmax over the logits of the labels
        alone, at temperature 1, in the order of the labels. Raises NoRoomError if the question has no room behind the
        prefix.
        """
        ...


class Prm(Protocol):
    """A reward model, of steps (PRM) or of finished answers (outcome model)."""

    def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        """Yield the reward of each candidate as the step that follows ``steps``, in completion order.

        It reads texts, not token ids: a PRM may have its own tokenizer and template. Rewards lie in [0, 1] if the
        model's description says ``has_bounded_rewards``; else they are any finite numbers. Raises NoRoomError if
        conversation, steps and a candidate are longer than its context.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The three models of a step. ``judges`` are the language models once more, as far as they can judge."""

    draft: Proposer
    target: Target
    prm: Prm
    judges: Mapping[Source, Judge] = field(default_factory=dict)
