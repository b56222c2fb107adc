"""What a job may choose. The defaults are the paper's (section 4, hyperparameters).

``gsi/jobs/job_params.py`` checks the ranges that a job may ask for; this module checks only what the mathematics needs.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from gsi.algorithm.candidates import Source
from gsi.algorithm.judging import JudgePrompt, JudgeScore
from gsi.algorithm.n_rule import NRule
from gsi.algorithm.reward_map import Raw, RewardMap
from gsi.algorithm.router import RewardRouter, Router
from gsi.algorithm.weighting import Binary, Weighting

_BRACES = r"(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*"  # three levels deep, as the papers' data sets need
DEFAULT_ANSWER_PATTERN = rf"\\boxed\{{({_BRACES})\}}"


class Likelihood(StrEnum):
    """The distribution that a log-likelihood belongs to (``docs/decisions/0001``)."""

    SAMPLING = "sampling"  # softmax(logits / temperature) restricted to the top-p nucleus: the law of sampling
    MODEL = "model"  # softmax(logits), as the paper authors' code does


class Preset(StrEnum):
    """Whose decisions are taken where the code of GSI's authors differs from their paper (``docs/algorithm.md``)."""

    PAPER = "paper"
    AUTHORS = "authors"


class Scope(StrEnum):
    """What a method chooses from."""

    STEPS = "steps"  # n candidates of every step
    RESPONSES = "responses"  # n whole answers


class Aggregate(StrEnum):
    """How the rewards of an answer's steps become its score."""

    LAST = "last"
    MINIMUM = "minimum"
    PRODUCT = "product"


class Resample(StrEnum):
    """How the target writes a step whose draft was rejected."""

    TARGET = "target"  # as its engine is set up
    SPECULATIVE = "speculative"  # the same, and its engine must decode speculatively, token by token


class ParticleWeights(StrEnum):
    """By what a new step multiplies the weight of its particle."""

    REWARD = "reward"  # exp(beta * r), whichever model writes
    TILTED = "tilted"  # exp(beta * r) pi_B / pi_S: the draft writes for the target


class ParticleChoice(StrEnum):
    """How a particle filter takes its answer from the last particles."""

    HIGHEST = "highest"  # the highest weight
    SAMPLE = "sample"  # drawn by the weights


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an engine samples a candidate, and which likelihood it reports."""

    temperature: float = 0.7  # 0: greedy
    top_p: float = 1.0
    max_step_tokens: int = 512
    likelihood: Likelihood = Likelihood.SAMPLING


@dataclass(frozen=True, slots=True)
class StopRules:
    """When a trajectory ends, apart from end-of-sequence. The PRM's context is the model's, the rest is the job's."""

    max_steps: int = 45
    max_tokens: int = 4096
    reward_floor: float | None = None  # the authors' code uses 0.1; off by default
    prm_max_length: int | None = None  # the PRM's context in its tokens; None: not known
    drops_low_step: bool = False  # a step that is below the floor is not part of the answer, as in the authors' code

    def is_low(self, best_reward: float) -> bool:
        """Return whether no candidate of a proposal reached the floor; ``best_reward`` is -inf without a reward."""
        return self.reward_floor is not None and best_reward < self.reward_floor


@dataclass(frozen=True, slots=True)
class Params:
    """Everything that decides a job's answer, except its seed."""

    method: str = "gsi"  # a name in gsi.algorithm.methods.METHODS
    n: int = 16
    n_target: int | None = None  # the target's candidates; None: as many as the draft's
    beta: float = 20.0
    acceptance_threshold: float = 0.5  # u, on the scale of the reward; preset authors: of beta times the reward
    role: Source = Source.DRAFT  # the model that writes, for a method that uses only one
    weighting: Weighting = Binary()  # when RSD accepts
    scope: Scope = Scope.STEPS
    aggregate: Aggregate = Aggregate.LAST
    beam_width: int | None = None  # trajectories that beam search keeps; None: the square root of n
    beam_expansion: int | None = None  # candidates of each trajectory; None: n / beam_width
    resample: Resample = Resample.TARGET
    reward_map: RewardMap = Raw()
    sampling: SamplingParams = SamplingParams()
    stop: StopRules = StopRules()
    preset: Preset = Preset.PAPER
    judge_prompt: JudgePrompt = JudgePrompt.SCORE
    judge_score: JudgeScore = JudgeScore.LIKELIEST
    judge_threshold: float | None = None  # the least score of a step that is kept; None: that of the prompt
    confidence_threshold: float = 0.9  # from which on the draft's judgement stands, in (0.5, 1]
    first_target_steps: int = 0  # at the beginning of an answer, which the target writes alone
    particle_weights: ParticleWeights = ParticleWeights.REWARD
    resample_below: float = 1.0  # share of n that the effective sample size must reach, or the particles are resampled
    particle_choice: ParticleChoice = ParticleChoice.HIGHEST
    switch_threshold: float = 0.7  # the reward of a step after which SPECS lets the draft write
    n_rule: NRule | None = None  # when no more candidates of a step are asked for; None: after n of them
    vote_warmup: int | None = None  # responses that set the threshold of confidence-vote; None: half of n, at most 16
    vote_percentile: float = 10.0  # of their lowest confidences, which is the threshold
    vote_consensus: float | None = 0.95  # tau: the winner's share of all weights that ends the vote; None: none does
    rejected_share: float = 0.5  # alpha: the share of responses that a point of speculative rejection ends
    router: Router = RewardRouter()  # of arbitrage; the coordinator's, which no job chooses
    router_threshold: float = 0.5  # tau: above it the target writes the step

    def __post_init__(self) -> None:
        if self.n < 1 or self.num_target_candidates < 1:
            raise ValueError(f"n and n_target must be at least 1; got {self.n} and {self.n_target}")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta must be finite and above 0; got {self.beta}")
        if not math.isfinite(self.acceptance_threshold):
            raise ValueError(f"acceptance_threshold must be finite; got {self.acceptance_threshold}")
        if self.vote_warmup is not None and self.vote_warmup < 1:
            raise ValueError(f"vote_warmup must be at least 1; got {self.vote_warmup}")
        if not 0 <= self.vote_percentile <= 100:
            raise ValueError(f"vote_percentile must be from 0 to 100; got {self.vote_percentile}")
        if not 0 < self.rejected_share < 1:
            raise ValueError(f"rejected_share must be between 0 and 1; got {self.rejected_share}")

    @property
    def least_tilted_reward(self) -> float:
        """u on the scale of the reward, where tilted rewards are."""
        return self.acceptance_threshold / (self.beta if self.preset is Preset.AUTHORS else 1)

    @property
    def least_judge_score(self) -> float:
        """The least score of a step that is kept, on the scale of the judging prompt's labels."""
        return self.judge_prompt.threshold if self.judge_threshold is None else self.judge_threshold

    @property
    def num_beams(self) -> int:
        return math.isqrt(self.n) if self.beam_width is None else self.beam_width

    @property
    def num_expansions(self) -> int:
        return max(1, self.n // self.num_beams) if self.beam_expansion is None else self.beam_expansion

    @property
    def num_warm_up_responses(self) -> int:
        wanted = min(16, (self.n + 1) // 2) if self.vote_warmup is None else self.vote_warmup
        return min(self.n, wanted)

    @property
    def num_target_candidates(self) -> int:
        return self.n if self.n_target is None else self.n_target
