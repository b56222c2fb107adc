"""What is proposed (``Candidate``), what is kept (``Step``), and what they grow into (``Trajectory``).

All likelihoods are natural logarithms, summed over the candidate's own token ids.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class FinishReason(StrEnum):
    """Why an engine stopped writing a candidate."""

    DELIMITER = "delimiter"  # the decoded text completed the step delimiter
    EOS = "eos"
    LENGTH = "length"  # max_step_tokens, or the model's context, was reached


class Source(StrEnum):
    """The model that wrote a step."""

    DRAFT = "draft"
    TARGET = "target"


class Outcome(StrEnum):
    """How a step came to be kept."""

    ACCEPTED = "accepted"  # the selected candidate passed, or the method has no test
    RESAMPLED = "resampled"  # the draft's candidate failed, and the target wrote the step


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed step. ``index`` names it within its proposal, 0 to n - 1."""

    index: int
    token_ids: tuple[int, ...]
    text: str
    log_likelihood: float  # nats, under the model that sampled it
    finish_reason: FinishReason

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError(f"candidate {self.index} has no tokens")
        if not -math.inf < self.log_likelihood <= 1e-6:  # a sum of rounded log-softmax may pass 0 by a hair
            raise ValueError(
                f"candidate {self.index} was sampled with log-likelihood {self.log_likelihood}; "
                "a sampled candidate has a finite one, at most 0"
            )


@dataclass(frozen=True, slots=True)
class Score:
    """One number for the candidate at ``index``: a log-likelihood (nats) or a reward."""

    index: int
    value: float


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that a chat template renders."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a job asks, as text (for the PRM) and as token ids (for the language models)."""

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The draft candidate that was selected and failed the test.

    A value is None where the method does not ask for it: RSD with a weighting of rewards needs no likelihoods.
    """

    text: str
    reward: float
    tilted_reward: float | None
    log_likelihood_draft: float
    log_likelihood_target: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """A kept step.

    A likelihood is None where the method does not ask for it: the draft never scores a step of the target, and soft
    best-of-n needs no likelihood of the other model. ``tilted_reward`` needs both. ``best_reward`` is the highest
    reward among the candidates that this step was selected from. Rewards are NaN where the PRM gave no number, or was
    not asked.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str
    source: Source
    outcome: Outcome
    finish_reason: FinishReason
    reward: float
    best_reward: float
    tilted_reward: float | None = None
    log_likelihood_draft: float | None = None
    log_likelihood_target: float | None = None
    rejected: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """How a trajectory of a population follows from the round before: ``parent`` is its place in that round.

    ``step`` is None for a trajectory that had finished, and is carried over unchanged. ``log_weight`` is that of the
    trajectory after the round, for a method that weighs its trajectories.
    """

    parent: int
    step: Step | None
    log_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A prompt and the kept steps: all the state that the next step depends on.

    ``log_weight`` is the logarithm of the trajectory's weight among others; 0 in a method that does not weigh them.
    """

    prompt: Prompt
    steps: tuple[Step, ...] = ()
    log_weight: float = 0.0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The prefix that the language models read: prompt and kept steps."""
        return self.prompt.token_ids + tuple(t for step in self.steps for t in step.token_ids)

    @property
    def num_step_tokens(self) -> int:
        return sum(len(step.token_ids) for step in self.steps)

    @property
    def text(self) -> str:
        """The answer so far, without the prompt."""
        return "".join(step.text for step in self.steps)

    def extend(self, *steps: Step) -> "Trajectory":
        return replace(self, steps=self.steps + steps)


Population = tuple[Trajectory, ...]  # what a method that keeps several trajectories works on


def grow(population: Population, branches: Sequence[Branch]) -> Population:
    """Return the population after a round."""
    parents = [replace(population[branch.parent], log_weight=branch.log_weight) for branch in branches]
    return tuple(
        parent if branch.step is None else parent.extend(branch.step)
        for parent, branch in zip(parents, branches, strict=True)
    )


def in_index_order(scores: Sequence[Score], num_candidates: int, what: str) -> list[float]:
    """Order scores by candidate; raise RuntimeError unless each candidate was scored exactly once."""
    values = {score.index: score.value for score in scores}
    if len(scores) != num_candidates or set(values) != set(range(num_candidates)):
        got = sorted(score.index for score in scores)
        raise RuntimeError(f"{what} must be given once for each of {num_candidates} candidates; got {got}")
    return [values[index] for index in range(num_candidates)]
