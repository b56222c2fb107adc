"""The parameters of a job: their names, ranges and defaults. Schema, errors and documents are made of these fields."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gsi.algorithm.candidates import Source
from gsi.algorithm.judging import JudgePrompt, JudgeScore
from gsi.algorithm.methods import METHODS
from gsi.algorithm.n_rule import N_RULES
from gsi.algorithm.params import (
    DEFAULT_ANSWER_PATTERN,
    Aggregate,
    Likelihood,
    Params,
    ParticleChoice,
    ParticleWeights,
    Preset,
    Resample,
    SamplingParams,
    Scope,
    StopRules,
)
from gsi.algorithm.reward_map import REWARD_MAPS, Raw
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.errors import InvalidRequestError
from gsi.jobs.answer_pattern import check_pattern
from gsi.jobs.choices import add_shorthand, add_text, build_choice
from gsi.jobs.method_spec import parse_method
from gsi.jobs.param_checks import MAX_CANDIDATES, check_method, check_together
from gsi.jobs.param_choices import (
    BOUNDED_REWARD_MAP,
    DEFAULT_WEIGHTING,
    UNBOUNDED_REWARD_MAP,
    NRule,
    RewardMap,
    Weighting,
)
from gsi.jobs.presets import add_preset_values
from gsi.limits import MAX_PATTERN_CHARACTERS, MAX_STOP_CHARACTERS, MAX_STOP_TEXTS


def _list_methods(schema: dict[str, Any]) -> None:
    """Add the names to the field's JSON Schema, and a method with options in one word."""
    schema["enum"] = list(METHODS)
    add_text(f"^({'|'.join(METHODS)})(:[^:]+)+$")(schema)


class JobParams(BaseModel):
    """What a job may choose. Everything has a default: the papers', where the papers name a value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True)

    method: Annotated[str, AfterValidator(check_method)] = Field(
        "gsi",
        description="How the answer is written; name:option is short for other parameters.",
        json_schema_extra=_list_methods,
    )
    n: int = Field(16, ge=1, le=MAX_CANDIDATES, description="Number of candidates of a step, or of responses.")
    n_target: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="Number of the target's candidates; null: n."
    )
    beta: float = Field(20.0, ge=1e-6, le=1e6, description="Inverse temperature of soft best-of-n.")
    acceptance_threshold: float = Field(
        0.5,
        ge=-1e6,
        le=1e6,
        description="u: the least tilted reward of an accepted step, on the reward's scale; "
        "with preset authors on the scale of beta times the reward, and 10 unless given.",
    )
    role: Source = Field(
        Source.DRAFT, strict=False, description="The model that writes, for a method that uses only one of the two."
    )
    weighting: Weighting = Field(
        DEFAULT_WEIGHTING,
        description="rsd: the probability of accepting, by the reward; name=number/number is the shorthand.",
        json_schema_extra=add_shorthand(WEIGHTINGS),
    )
    scope: Scope = Field(
        Scope.STEPS,
        strict=False,
        description="Whether to choose among the candidates of every step, or among whole responses.",
    )
    aggregate: Aggregate = Field(
        Aggregate.LAST, strict=False, description="How the rewards of its steps make the score of a response or a beam."
    )
    beam_width: int | None = Field(
        None,
        ge=1,
        le=MAX_CANDIDATES,
        description="beam-search: number of kept trajectories; dvts: of subtrees; null: the square root of n.",
    )
    beam_expansion: int | None = Field(
        None,
        ge=1,
        le=MAX_CANDIDATES,
        description="beam-search, dvts: candidates of each trajectory; null: n divided by beam_width.",
    )
    resample: Resample = Field(
        Resample.TARGET,
        strict=False,
        description="How the target writes a step; speculative: its engine must decode speculatively.",
    )
    reward_map: RewardMap | None = Field(
        None,
        description="Map from the reward model's score to the reward; null: raw, or logistic if scores are unbounded.",
        json_schema_extra=add_shorthand(REWARD_MAPS),
    )
    preset: Preset = Field(
        Preset.PAPER,
        strict=False,
        description="gsi, gsi-no-rejection, rsd: authors decides as the code of GSI's authors, and has other defaults.",
    )
    temperature: float = Field(
        0.7, ge=0, le=10, description="Temperature of draft and target; 0: greedy, else 0.01 or more."
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Probability mass of the nucleus that is sampled from.")
    likelihood: Likelihood = Field(
        Likelihood.SAMPLING, strict=False, description="The distribution that likelihoods belong to."
    )
    max_steps: int = Field(45, ge=1, le=1000, description="Most steps of an answer.")
    max_tokens: int = Field(4096, ge=1, le=131_072, description="Most tokens of an answer.")
    max_step_tokens: int = Field(512, ge=1, le=8192, description="Most tokens of a candidate.")
    reward_floor: float | None = Field(
        None, ge=-1e6, le=1e6, description="Stop after a step if no candidate reached this reward; null: off."
    )
    answer_pattern: Annotated[str, AfterValidator(check_pattern)] | None = Field(
        DEFAULT_ANSWER_PATTERN,
        min_length=1,
        max_length=MAX_PATTERN_CHARACTERS,
        description="RE2 expression whose first group (or whole match) is the answer. Stop when it matches; null: off.",
    )
    thinking: bool | None = Field(
        None,
        description="Whether the models write a reasoning trace, up to </think>, before the answer; true: the defaults "
        "of max_steps and max_tokens are 1000 and 32768. null: if the text begins with <think>.",
    )
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]] = Field(
        [],
        max_length=MAX_STOP_TEXTS,
        description="Texts that end the answer: it stops after the step in which one appears, and is cut before it.",
    )
    seed: int | None = Field(
        None, ge=0, le=2**63 - 1, description="Makes a run repeatable; null: derived from the job's id."
    )
    keep_candidates: bool = Field(False, description="Keep every candidate with its numbers in the job's steps.")
    judge_prompt: JudgePrompt = Field(
        JudgePrompt.SCORE,
        strict=False,
        description="spec-reason, conf-spec: what a judge answers about a step; score: 0 to 9, verdict: 0 or 1.",
    )
    judge_score: JudgeScore = Field(
        JudgeScore.LIKELIEST,
        strict=False,
        description="spec-reason, conf-spec: the score of a step is the likeliest answer, or the mean of the answers.",
    )
    judge_threshold: float | None = Field(
        None,
        ge=0,
        le=9,
        description="spec-reason, conf-spec: the least score of a kept step; null: 7 of 9, or 0.5 with verdict.",
    )
    confidence_threshold: float = Field(
        0.9,
        gt=0.5,
        le=1,
        description="conf-spec: the probability from which on the draft's judgement of its step stands.",
    )

    first_target_steps: int = Field(
        0, ge=0, le=1000, description="spec-reason: the number of first steps, which the target writes alone."
    )
    particle_weights: ParticleWeights = Field(
        ParticleWeights.REWARD,
        strict=False,
        description="particle-filter: a step weighs exp(beta * reward), or exp(beta * tilted reward), where the draft "
        "writes.",
    )
    resample_below: float = Field(
        1.0,
        ge=0,
        le=1,
        description="particle-filter: resample where the effective sample size is below this share of n; 1: in every "
        "round, 0: never.",
    )
    particle_choice: ParticleChoice = Field(
        ParticleChoice.HIGHEST,
        strict=False,
        description="particle-filter: the answer has the highest weight, or is drawn by the weights.",
    )
    switch_threshold: float = Field(
        0.7, ge=-1e6, le=1e6, description="specs: the draft writes the step after a step of at least this reward."
    )
    n_rule: NRule | None = Field(
        None,
        description="When a method that chooses by rewards asks for fewer than n candidates; null: never. "
        "name=number/number is the shorthand.",
        json_schema_extra=add_shorthand(N_RULES),
    )
    vote_warmup: int | None = Field(
        None,
        ge=1,
        le=MAX_CANDIDATES,
        description="confidence-vote: number of first responses, whose confidences set the threshold; null: half of n, "
        "at most 16.",
    )
    vote_percentile: float = Field(
        10.0,
        ge=0,
        le=100,
        description="confidence-vote: the percentile of their lowest confidences below which a response ends.",
    )
    vote_consensus: float | None = Field(
        0.95,
        gt=0.5,
        le=1,
        description="confidence-vote: the winner's share of all weights that ends the vote; null: it ends only when no "
        "vote can change the winner.",
    )
    rejected_share: float = Field(
        0.5,
        ge=0.01,
        le=0.99,
        description="alpha: the share of the unfinished responses that a point of speculative-rejection ends.",
    )
    router_threshold: float = Field(
        0.5,
        ge=0,
        le=1,
        description="arbitrage: tau; the target writes the step if its advantage is likelier than this.",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_method(cls, given: Any) -> Any:
        """Expand ``name:option``, then the preset. Refuse a parameter that is given twice with different values."""
        if not isinstance(given, dict):
            return given
        method = given.get("method")
        if not isinstance(method, str) or ":" not in method:
            return add_preset_values(given)
        expanded = parse_method(method, list(cls.model_fields))
        twice = sorted(name for name in expanded.keys() & given.keys() - {"method"} if expanded[name] != given[name])
        if twice:
            raise InvalidRequestError(f'params.{twice[0]}: method "{method}" says it, too; allowed: once')
        return add_preset_values({**given, **expanded})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_together(self.to_params())
        return self

    def in_force(self, *, has_bounded_rewards: bool, seed: int) -> "JobParams":
        """Return these parameters with the values that depend on the models and on the job's id."""
        chosen = self.reward_map or (BOUNDED_REWARD_MAP if has_bounded_rewards else UNBOUNDED_REWARD_MAP)
        return self.model_copy(update={"reward_map": chosen, "seed": seed})

    def to_params(self) -> Params:
        """Return the algorithm's view of these parameters."""
        drops_low_step = self.preset is Preset.AUTHORS and "preset" in METHODS[self.method].parameters
        return Params(
            role=self.role,
            weighting=build_choice(WEIGHTINGS, self.weighting),
            scope=self.scope,
            aggregate=self.aggregate,
            beam_width=self.beam_width,
            beam_expansion=self.beam_expansion,
            resample=self.resample,
            reward_map=build_choice(REWARD_MAPS, self.reward_map) if self.reward_map is not None else Raw(),
            method=self.method,
            n=self.n,
            n_target=self.n_target,
            beta=self.beta,
            acceptance_threshold=self.acceptance_threshold,
            sampling=SamplingParams(self.temperature, self.top_p, self.max_step_tokens, self.likelihood),
            stop=StopRules(self.max_steps, self.max_tokens, self.reward_floor, drops_low_step=drops_low_step),
            preset=self.preset,
            judge_prompt=self.judge_prompt,
            judge_score=self.judge_score,
            judge_threshold=self.judge_threshold,
            confidence_threshold=self.confidence_threshold,
            first_target_steps=self.first_target_steps,
            particle_weights=self.particle_weights,
            resample_below=self.resample_below,
            particle_choice=self.particle_choice,
            switch_threshold=self.switch_threshold,
            n_rule=build_choice(N_RULES, self.n_rule) if self.n_rule is not None else None,
            vote_warmup=self.vote_warmup,
            vote_percentile=self.vote_percentile,
            vote_consensus=self.vote_consensus,
            rejected_share=self.rejected_share,
            router_threshold=self.router_threshold,
        )
