"""What a step needs from outside: three ports. Engines and gRPC clients both implement them.

Every method returns at once; the work is done as its answer is iterated, and closing the iterator stops it.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gsi.algorithm.candidates import Candidate, Message, Score
from gsi.algorithm.params import SamplingParams

# Generators, not mere iterators: they can be closed, which stops the engine's work.
CandidateBatches = AsyncGenerator[Sequence[Candidate], None]
ScoreBatches = AsyncGenerator[Sequence[Score], None]


class TokenSequence(Protocol):
    """All that a likelihood needs of a candidate."""

    @property
    def index(self) -> int: ...
    @property
    def token_ids(self) -> tuple[int, ...]: ...


class StepText(Protocol):
    """All that a PRM needs of a candidate."""

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

        Yields the candidates that finished since the last batch, each index 0 to n - 1 once, in completion order.
        The randomness of candidate i comes from (seed, i) only.
        """
        ...


class LikelihoodScorer(Protocol):
    """A language model that says how likely it would have written given candidates (target)."""

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        """Yield log pi(candidate | prefix) in nats for each candidate, in completion order.

        Summed over the candidate's token ids as given, under the distribution that ``sampling`` names.
        """
        ...


class Target(Proposer, LikelihoodScorer, Protocol):
    """The large model: it scores the draft's candidates and writes a step anew where they fail."""


class Prm(Protocol):
    """A reward model: of steps (PRM), or of finished answers (outcome model)."""

    def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        """Yield the reward of each candidate as the step that follows ``steps``, in completion order.

        Reads texts, not token ids: a PRM may have a tokenizer and a template of its own. Rewards lie in [0, 1] where
        the model's description says ``has_bounded_rewards``; otherwise they are any finite number.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The three models of a step."""

    draft: Proposer
    target: Target
    prm: Prm
