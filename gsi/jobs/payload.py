"""The payload of a job, which a program in any language can push. Its JSON Schema is ``docs/job.schema.json``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gsi.algorithm.candidates import Message, Source
from gsi.algorithm.methods import METHODS
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
from gsi.jobs.choices import Choice, add_shorthand, add_text, build_choice, choice_type
from gsi.jobs.keys import DEFAULT_TENANT, Priority
from gsi.jobs.method_spec import parse_method
from gsi.limits import (
    JOB_ID_PATTERN,
    MAX_MESSAGES,
    MAX_PATTERN_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_TEXTS,
    MIN_TEMPERATURE,
)

# A release that adds a field or a value raises this number, and its clients write the least ``v`` that knows all that a
# payload uses. A coordinator that reads a smaller one leaves the job to others: decision 0042.
PAYLOAD_FORMAT = 1
MAX_CANDIDATES = 256  # the largest n in the paper's plots
TENANT_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
TRACEPARENT_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"  # W3C Trace Context, version 0

AUTHORS_VALUES: Mapping[str, Any] = {  # in the code of GSI's authors; u = 10 is the paper's 0.5 at its beta of 20
    "acceptance_threshold": 10.0,
    "reward_floor": 0.1,
    "likelihood": Likelihood.MODEL.value,
}

THINKING_VALUES: Mapping[str, Any] = {  # a trace has hundreds of paragraphs, and each is a step
    "max_steps": 1000,
    "max_tokens": 32_768,  # the output length that the model cards of Qwen3 recommend
}

CHOICES: Mapping[str, Mapping[str, Any]] = {"weighting": WEIGHTINGS, "reward_map": REWARD_MAPS}
if TYPE_CHECKING:  # the registries make the types
    Weighting = Choice
    RewardMap = Choice
else:
    Weighting = choice_type("weighting", WEIGHTINGS)
    RewardMap = choice_type("reward_map", REWARD_MAPS)
DEFAULT_WEIGHTING: Weighting = TypeAdapter(Weighting).validate_python({"name": "binary", "delta": 0.7})  # both papers'
# Of a job that names no map: of rewards within [0, 1], and of others.
BOUNDED_REWARD_MAP, UNBOUNDED_REWARD_MAP = (
    TypeAdapter(RewardMap).validate_python({"name": name}) for name in ("raw", "logistic")
)


def _check_method(name: str) -> str:
    if name not in METHODS:
        raise PydanticCustomError("unknown_method", "no such method")  # payload_errors lists what is allowed
    return name


def _add_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, with the values of preset authors and of thinking where it says none.

    A method that does not take the preset has the values of the paper.
    """
    method = METHODS.get(str(given.get("method", "gsi")))
    is_taken = method is not None and "preset" in method.parameters and given.get("preset") == Preset.AUTHORS
    thinking = THINKING_VALUES if given.get("thinking") is True else {}
    return {**thinking, **(AUTHORS_VALUES if is_taken else {}), **given}


def _list_methods(schema: dict[str, Any]) -> None:
    """Add the names to the field's JSON Schema, and a method with options in one word."""
    schema["enum"] = list(METHODS)
    add_text(f"^({'|'.join(METHODS)})(:[^:]+)+$")(schema)


class JobParams(BaseModel):
    """What a job may choose. Everything has a default: the papers', where the papers name a value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True)

    method: Annotated[str, AfterValidator(_check_method)] = Field(
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

    @model_validator(mode="before")
    @classmethod
    def _expand_method(cls, given: Any) -> Any:
        """Expand ``name:option``, then the preset. Refuse a parameter that is given twice with different values."""
        if not isinstance(given, dict):
            return given
        method = given.get("method")
        if not isinstance(method, str) or ":" not in method:
            return _add_defaults(given)
        expanded = parse_method(method, list(cls.model_fields))
        twice = sorted(name for name in expanded.keys() & given.keys() - {"method"} if expanded[name] != given[name])
        if twice:
            raise InvalidRequestError(f'params.{twice[0]}: method "{method}" says it, too; allowed: once')
        return _add_defaults({**given, **expanded})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Refuse values that are allowed alone but not together."""
        if 0 < self.temperature < MIN_TEMPERATURE:
            raise InvalidRequestError(
                f"params.temperature: {self.temperature:g} is not allowed; allowed: 0 (greedy), or a number from "
                f"{MIN_TEMPERATURE} to 10"
            )
        params = self.to_params()
        method = METHODS[self.method]
        if self.temperature == 0 and method.asks_likelihoods(params):
            raise InvalidRequestError(
                f"params.temperature: 0 is greedy, where a likelihood ratio says nothing, and {self.method} needs one; "
                f"allowed: a number from {MIN_TEMPERATURE} to 10"
            )
        if self.reward_floor is not None and not method.asks_rewards(params):
            raise InvalidRequestError(f"params.reward_floor: method {self.method} asks for no reward; allowed: null")
        is_tilted = "particle_weights" in method.parameters and self.particle_weights is ParticleWeights.TILTED
        if is_tilted and self.role is not Source.DRAFT:
            raise InvalidRequestError("params.role: tilted particles are the draft's; allowed: draft")
        num_candidates = params.num_beams * params.num_expansions
        if "beam_width" in method.parameters and num_candidates > MAX_CANDIDATES:
            raise InvalidRequestError(
                f"params.beam_width, params.beam_expansion: {num_candidates} candidates a round; "
                f"allowed: at most {MAX_CANDIDATES}"
            )
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
            particle_weights=self.particle_weights,
            resample_below=self.resample_below,
            particle_choice=self.particle_choice,
            switch_threshold=self.switch_threshold,
        )


def _check_traceparent(traceparent: str) -> str:
    _, trace_id, span_id, _ = traceparent.split("-")
    if not (trace_id.strip("0") and span_id.strip("0")):
        raise InvalidRequestError(f"traceparent: {traceparent} names no span; allowed: ids that are not all zeros")
    return traceparent


Traceparent = Annotated[str, StringConstraints(pattern=TRACEPARENT_PATTERN), AfterValidator(_check_traceparent)]


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["system", "user", "assistant"] = Field(description="Who speaks.")
    content: str = Field(max_length=MAX_PROMPT_CHARACTERS, description="What is said.")


def _require_one_question(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that a job has either a prompt or messages."""
    schema["oneOf"] = [
        {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
        {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
    ]


class JobPayload(BaseModel):
    """The JSON in field ``job`` of a stream entry. Its JSON Schema is ``docs/job.schema.json``."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, title="GSI job, version 1", json_schema_extra=_require_one_question
    )

    v: Literal[1] = Field(1, description="Version of this format.")
    id: str | None = Field(
        None,
        pattern=JOB_ID_PATTERN,
        description="The job's id; null: the id of its stream entry. A job that is pushed twice with one id runs once.",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="The user's question; null: messages has the conversation.",
    )
    system: str | None = Field(
        None,
        max_length=MAX_PROMPT_CHARACTERS,
        description="A system message before the prompt; null: the chat template's own.",
    )
    messages: list[ChatMessage] | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGES,
        validate_default=True,
        description="A conversation that ends with a message of the user, in place of prompt and system; null: none.",
    )
    params: JobParams = JobParams()
    priority: Priority = Field(
        Priority.NORMAL,
        strict=False,
        description="Lane for the SDK; a program that pushes by XADD chooses the stream instead.",
    )
    tenant: str = Field(DEFAULT_TENANT, pattern=TENANT_PATTERN, description="The tenant that the job belongs to.")
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="For a day, the SDK runs only the first job with this key of this tenant.",
    )
    deadline_seconds: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        description="Seconds from submission after which an unfinished job is EXPIRED; null: none.",
    )
    result_ttl_seconds: float | None = Field(
        None, ge=1, le=31_536_000, description="Seconds for which the result can be read; null: the queue's default."
    )

    traceparent: Traceparent | None = Field(
        None, description="W3C Trace Context of the submitter; null: the job starts its own trace."
    )

    @field_validator("messages")
    @classmethod
    def _check_question(cls, messages: list[ChatMessage] | None, info: ValidationInfo) -> list[ChatMessage] | None:
        """Refuse a job that asks nothing, or asks twice. A prompt that is wrong in itself is not in ``info.data``."""
        prompt, system = info.data.get("prompt", ""), info.data.get("system")
        if messages is None:
            if prompt is None:
                raise InvalidRequestError(
                    f"prompt: missing; allowed: text of 1 to {MAX_PROMPT_CHARACTERS} characters, "
                    "or messages in its place"
                )
            return None
        if prompt or system is not None:
            raise InvalidRequestError(
                f"messages: {'prompt' if prompt else 'system'} is given, too; allowed: messages alone, or a prompt"
            )
        if messages[-1].role != "user":
            raise InvalidRequestError(
                f"messages.{len(messages) - 1}.role: the last message is of role {messages[-1].role}; allowed: user"
            )
        return messages

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages that the chat template renders."""
        if self.messages is not None:
            return tuple(Message(message.role, message.content) for message in self.messages)
        system = (Message("system", self.system),) if self.system is not None else ()
        return (*system, Message("user", self.prompt or ""))
