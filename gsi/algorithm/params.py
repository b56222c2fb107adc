"""What a job may choose. The defaults are the paper's (section 4, hyperparameters).

The ranges that users may ask for are checked where jobs come in (``gsi/jobs/job.py``); here stands only what the
mathematics itself needs.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_ANSWER_PATTERN = r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"  # \boxed{…}, with one level of braces inside


class Likelihood(StrEnum):
    """Which distribution a log-likelihood speaks of (ARCHITECTURE decision, ``docs/algorithm.md``)."""

    SAMPLING = "sampling"  # softmax(logits / temperature) restricted to the top-p nucleus: what is sampled from
    MODEL = "model"  # softmax(logits), as the paper authors' code does


class Method(StrEnum):
    """How a step is made."""

    GSI = "gsi"  # Algorithm 1
    SOFT_BEST_OF_N_DRAFT = "soft-best-of-n:draft"  # section 2; with n = 1 the draft alone
    SOFT_BEST_OF_N_TARGET = "soft-best-of-n:target"  # section 2; with n = 1 the target alone


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an engine samples a candidate, and which likelihood it reports."""

    temperature: float = 0.7
    top_p: float = 1.0
    max_step_tokens: int = 512
    likelihood: Likelihood = Likelihood.SAMPLING


@dataclass(frozen=True, slots=True)
class StopRules:
    """When a trajectory ends, besides end-of-sequence."""

    max_steps: int = 45
    max_tokens: int = 4096
    reward_floor: float | None = None  # the authors' code uses 0.1; off by default


@dataclass(frozen=True, slots=True)
class Params:
    """Everything that decides a job's answer, its seed aside."""

    method: Method = Method.GSI
    n: int = 16
    n_target: int | None = None  # candidates of a resampling; None: as many as the draft's
    beta: float = 20.0
    acceptance_threshold: float = 0.5  # u: on the reward's scale, not on beta times it
    sampling: SamplingParams = SamplingParams()
    stop: StopRules = StopRules()

    def __post_init__(self) -> None:
        if self.n < 1 or self.num_target_candidates < 1:
            raise ValueError(f"n and n_target must be at least 1; got {self.n} and {self.n_target}")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta must be finite and above 0; got {self.beta}")
        if not math.isfinite(self.acceptance_threshold):
            raise ValueError(f"acceptance_threshold must be finite; got {self.acceptance_threshold}")

    @property
    def num_target_candidates(self) -> int:
        return self.n if self.n_target is None else self.n_target
