"""What a job is: the payload that any language can push, checked, and the job that comes of it.

A payload that does not fit is refused with a sentence that names the field and what is allowed.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from gsi.algorithm.candidates import Message, Source
from gsi.algorithm.params import (
    DEFAULT_ANSWER_PATTERN,
    Aggregate,
    Likelihood,
    Method,
    Params,
    Resample,
    SamplingParams,
    Scope,
    StopRules,
)
from gsi.algorithm.reward_map import REWARD_MAPS, Raw
from gsi.algorithm.seeds import derive_seed
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.errors import InvalidRequestError
from gsi.jobs.method_spec import REWARDLESS, USED_BY, number_names, parse_choice, parse_method
from gsi.jobs.named import Named, named

MAX_PAYLOAD_BYTES = 4 * 2**20
MAX_PROMPT_CHARACTERS = 1_000_000
MAX_CANDIDATES = 256  # the largest n of the paper's plots
MIN_TEMPERATURE = 0.01
SHOWN_CHARACTERS = 60  # of a bad value, in an error

T = TypeVar("T")


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # the error says it; RE2 would also write to standard error
    return re2.compile(pattern, options)


def _compiles(pattern: str) -> str:
    try:
        _compiled(pattern)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise ValueError(f"not an RE2 regular expression ({reason})") from None
    return pattern


def _choice(what: str, registry: Mapping[str, type[Any]]) -> Any:
    """Return the type of a field that chooses from ``registry``: an object, or its shorthand."""

    def written_out(value: Any) -> Any:
        return parse_choice(what, registry, value) if isinstance(value, str) else value

    return Annotated[named(f"params.{what}", registry), BeforeValidator(written_out)]


def _or_short(pattern: str) -> Any:
    """Return what adds to a field's JSON Schema that it may be text of this pattern, too."""

    def add(schema: dict[str, Any]) -> None:
        about: dict[str, Any] = {
            name: schema.pop(name) for name in ("default", "description", "title") if name in schema
        }
        long = schema.pop("anyOf", None) or [dict(schema)]
        schema.clear()
        schema.update({"anyOf": [*long, {"type": "string", "pattern": pattern}], **about})

    return add


def _short(registry: Mapping[str, Any]) -> Any:
    return _or_short(rf"^({'|'.join(registry)})(=[^/]+(/[^/]+)*)?$")


DEFAULT_WEIGHTING: Any = {"name": "binary", "delta": 0.7}  # both papers'
CHOICES: Mapping[str, Mapping[str, Any]] = {"weighting": WEIGHTINGS, "reward_map": REWARD_MAPS}
if TYPE_CHECKING:  # the types themselves are made from the registries
    Weighting = Named
    RewardMap = Named
else:
    Weighting = _choice("weighting", WEIGHTINGS)
    RewardMap = _choice("reward_map", REWARD_MAPS)


class JobParams(BaseModel):
    """What a job may choose; everything has a default (the papers', where they name one)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True)

    method: Method = Field(
        Method.GSI,
        strict=False,
        description="How the answer is written; name:option is short for other parameters.",
        json_schema_extra=_or_short(f"^({'|'.join(Method)})(:[^:]+)+$"),
    )
    n: int = Field(16, ge=1, le=MAX_CANDIDATES, description="Candidates a step, or responses.")
    n_target: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="Candidates when the target writes a step; null: n."
    )
    beta: float = Field(20.0, ge=1e-6, le=1e6, description="Inverse temperature of soft best-of-n.")
    acceptance_threshold: float = Field(
        0.5, ge=-1e6, le=1e6, description="u: the least tilted reward of an accepted step, on the reward's scale."
    )
    role: Source = Field(
        Source.DRAFT, strict=False, description="The model that writes, where a method uses only one of the two."
    )
    weighting: Weighting = Field(
        DEFAULT_WEIGHTING,
        description="rsd: the probability of accepting, by the reward; name=number/number is short.",
        json_schema_extra=_short(WEIGHTINGS),
    )
    scope: Scope = Field(
        Scope.STEPS, strict=False, description="best-of-n: of the candidates of every step, or of whole responses."
    )
    aggregate: Aggregate = Field(
        Aggregate.LAST, strict=False, description="The score of a response or a beam, from the rewards of its steps."
    )
    beam_width: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="beam-search: trajectories kept; null: the square root of n."
    )
    beam_expansion: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="beam-search: candidates of each; null: n divided by beam_width."
    )
    resample: Resample = Field(
        Resample.TARGET,
        strict=False,
        description="What writes a rejected step anew; speculative: the target must decode so.",
    )
    reward_map: RewardMap | None = Field(
        None,
        description="From the reward model's score to the reward; null: raw, or logistic if it is unbounded.",
        json_schema_extra=_short(REWARD_MAPS),
    )
    temperature: float = Field(0.7, ge=0, le=10, description="Of draft and target; 0: greedy, else 0.01 or more.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus that is sampled from.")
    likelihood: Likelihood = Field(
        Likelihood.SAMPLING, strict=False, description="The distribution that likelihoods speak of."
    )
    max_steps: int = Field(45, ge=1, le=1000, description="Steps of an answer, at most.")
    max_tokens: int = Field(4096, ge=1, le=131_072, description="Tokens of an answer, at most.")
    max_step_tokens: int = Field(512, ge=1, le=8192, description="Tokens of a candidate, at most.")
    reward_floor: float | None = Field(
        None, ge=-1e6, le=1e6, description="Stop after a step none of whose candidates reached this reward; null: off."
    )
    answer_pattern: Annotated[str, AfterValidator(_compiles)] | None = Field(
        DEFAULT_ANSWER_PATTERN,
        min_length=1,
        max_length=1000,
        description="RE2 expression; the answer is its first group, or all of it. Stop when it is found; null: off.",
    )
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Makes a run repeatable; null: from the job's id.")
    keep_candidates: bool = Field(False, description="Keep every candidate with its numbers in the job's steps.")

    @model_validator(mode="before")
    @classmethod
    def _expand_method(cls, given: Any) -> Any:
        """Write ``name:option`` out. What it says may not be said a second time."""
        method = given.get("method") if isinstance(given, dict) else None
        if not isinstance(method, str) or ":" not in method:
            return given
        expanded = parse_method(method, list(cls.model_fields))
        twice = sorted(name for name in expanded.keys() & given.keys() - {"method"} if expanded[name] != given[name])
        if twice:
            raise InvalidRequestError(f'params.{twice[0]}: method "{method}" says it, too; allowed: once')
        return {**given, **expanded}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Refuse what is allowed by itself and not together."""
        if 0 < self.temperature < MIN_TEMPERATURE:
            raise InvalidRequestError(
                f"params.temperature: {self.temperature:g} is not allowed; allowed: 0 (greedy), or a number from "
                f"{MIN_TEMPERATURE} to 10"
            )
        if self.temperature == 0 and self.needs_log_ratio:
            raise InvalidRequestError(
                f"params.temperature: 0 is greedy, where a likelihood ratio says nothing, and {self.method} needs one; "
                f"allowed: a number from {MIN_TEMPERATURE} to 10"
            )
        if self.reward_floor is not None and self.method in REWARDLESS:
            raise InvalidRequestError(f"params.reward_floor: method {self.method} asks for no reward; allowed: null")
        params = self.to_params()
        num_candidates = params.num_beams * params.num_expansions
        if self.method is Method.BEAM_SEARCH and num_candidates > MAX_CANDIDATES:
            raise InvalidRequestError(
                f"params.beam_width, params.beam_expansion: {num_candidates} candidates a round; "
                f"allowed: at most {MAX_CANDIDATES}"
            )
        return self

    @property
    def needs_log_ratio(self) -> bool:
        """Whether the method compares the likelihoods of both models."""
        by_ratio = self.method is Method.RSD and WEIGHTINGS[self.weighting.name].needs_log_ratio
        return by_ratio or self.method in {Method.GSI, Method.GSI_NO_REJECTION}

    @property
    def needs_speculation(self) -> bool:
        """Whether the target's engine must decode speculatively."""
        is_resampling = self.method in USED_BY["resample"] and self.resample is Resample.SPECULATIVE
        return is_resampling or self.method is Method.SPECULATIVE_DECODING

    def in_force(self, *, has_bounded_rewards: bool, seed: int) -> "JobParams":
        """Return these parameters with what they leave to the models and to the job's id."""
        name = "raw" if has_bounded_rewards else "logistic"
        chosen = self.reward_map or TypeAdapter(RewardMap).validate_python({"name": name})
        return self.model_copy(update={"reward_map": chosen, "seed": seed})

    def to_params(self) -> Params:
        """Return the algorithm's view of these parameters."""
        return Params(
            role=self.role,
            weighting=_built(WEIGHTINGS, self.weighting),
            scope=self.scope,
            aggregate=self.aggregate,
            beam_width=self.beam_width,
            beam_expansion=self.beam_expansion,
            resample=self.resample,
            reward_map=_built(REWARD_MAPS, self.reward_map) if self.reward_map is not None else Raw(),
            method=self.method,
            n=self.n,
            n_target=self.n_target,
            beta=self.beta,
            acceptance_threshold=self.acceptance_threshold,
            sampling=SamplingParams(self.temperature, self.top_p, self.max_step_tokens, self.likelihood),
            stop=StopRules(self.max_steps, self.max_tokens, self.reward_floor),
        )


def _built(registry: Mapping[str, type[T]], chosen: Named) -> T:
    return registry[chosen.name](**chosen.numbers)


class JobPayload(BaseModel):
    """The JSON in field ``job`` of a stream entry. Its JSON Schema is ``docs/job.schema.json``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="GSI job, version 1")

    v: Literal[1] = Field(1, description="Version of this format.")
    id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Names the job; null: the id of its stream entry. Pushing an id twice runs it once.",
    )
    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="The user's question.")
    system: str | None = Field(
        None, max_length=MAX_PROMPT_CHARACTERS, description="A system message; null: the chat template's own."
    )
    params: JobParams = JobParams()

    @property
    def messages(self) -> tuple[Message, ...]:
        system = (Message("system", self.system),) if self.system is not None else ()
        return (*system, Message("user", self.prompt))


@dataclass(frozen=True, slots=True)
class Job:
    """A payload with the id that it runs under."""

    id: str
    payload: JobPayload

    @property
    def seed(self) -> int:
        chosen = self.payload.params.seed
        return derive_seed("job", self.id) if chosen is None else chosen


class AnswerFinder:
    """Finds the answer in a text by the job's pattern. RE2: linear time, so no job can hold up the others."""

    def __init__(self, pattern: str | None) -> None:
        self._pattern = _compiled(pattern) if pattern is not None else None

    def find(self, text: str) -> str | None:
        """Return the last answer in ``text``: the pattern's first group, or the whole match without one."""
        matches = list(self._pattern.finditer(text)) if self._pattern is not None else []
        if not matches:
            return None
        answer: str = matches[-1].group(1 if matches[-1].re.groups else 0)
        return answer

    def has_answer(self, text: str) -> bool:
        return self._pattern is not None and self._pattern.search(text) is not None


def parse_payload(raw: str | bytes | Mapping[str, Any]) -> JobPayload:
    """Check a payload. Raises InvalidRequestError that names each field at fault and what is allowed."""
    written = raw if isinstance(raw, bytes) else _written(raw)
    if len(written) > MAX_PAYLOAD_BYTES:
        raise InvalidRequestError(f"job: {len(written)} bytes; allowed: at most {MAX_PAYLOAD_BYTES}")
    try:
        return JobPayload.model_validate_json(written)
    except ValidationError as error:
        raise InvalidRequestError("; ".join(_sentence(e) for e in error.errors(include_url=False))) from None


def _written(payload: str | Mapping[str, Any]) -> bytes:
    try:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return text.encode()
    except (TypeError, ValueError) as error:  # a value that JSON has no form for, half a surrogate pair
        raise InvalidRequestError(f"job: not JSON ({error}); allowed: values that JSON can write") from None


def claimed_id(raw: str | bytes) -> str | None:
    """Return the id that a payload names if that part of it is readable, however wrong the rest is."""
    if len(raw) > MAX_PAYLOAD_BYTES:
        return None
    try:
        found = json.loads(raw).get("id")
        return JobPayload(prompt="-", id=found).id
    except (ValueError, AttributeError, RecursionError):
        return None


def _sentence(error: ErrorDetails) -> str:
    """Say which field is wrong, what it was, and what is allowed."""
    path = [str(part) for part in error["loc"]] or ["job"]
    field = ".".join(path)
    match error["type"]:
        case "json_invalid":
            return f'job: not JSON ({error["ctx"]["error"]}); allowed: an object like {{"v":1,"prompt":"…"}}'
        case "missing":
            return f"{field}: missing; allowed: {allowed(path)}"
        case "extra_forbidden":
            return f"{field}: unknown{_suggestion(path)}"
        case "value_error" if isinstance(error["ctx"]["error"], InvalidRequestError):
            return str(error["ctx"]["error"])
        case "value_error":  # of our own validators: the reason is a phrase
            return f"{field}: {_shown(error['input'])} is {error['ctx']['error']}; allowed: {allowed(path)}"
        case _:
            return f"{field}: {_shown(error['input'])} is not allowed; allowed: {allowed(path)}"


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}… ({len(shown)} characters)"


def _suggestion(path: list[str]) -> str:
    if path[0] == "params" and path[1] in CHOICES:
        return f"; allowed: {', '.join(['name', *number_names(CHOICES[path[1]][path[2]])])}"
    model = JobParams if path[0] == "params" and len(path) > 1 else JobPayload
    close = difflib.get_close_matches(path[-1], model.model_fields, n=1)
    hint = "acceptance_threshold" if path[-1] == "u" else (close[0] if close else None)
    return f"; did you mean {hint}?" if hint else f"; allowed: {', '.join(model.model_fields)}"


def allowed(path: list[str]) -> str:
    """Return what a field allows, in words, read from the schema: one source for check, error and docs."""
    if path == ["job"]:
        return 'an object like {"v":1,"prompt":"…"}'
    if path == ["params"]:
        return "an object of parameters"
    if path == ["params", "method"]:
        return ", ".join(Method)
    if path[0] == "params" and path[1] in CHOICES:
        return "a number" if len(path) > 2 else f"an object with a name of {', '.join(CHOICES[path[1]])}"
    model = JobParams if path[0] == "params" else JobPayload
    schema = model.model_json_schema()
    field = schema["properties"].get(path[1] if path[0] == "params" else path[0], {})
    alternatives = [_resolved(part, schema) for part in field.get("anyOf", [field])]
    return " or ".join(_in_words(alternative) for alternative in alternatives)


def _resolved(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref", "")
    resolved: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else part
    return resolved


def _in_words(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = {"integer": "a whole number", "number": "a number", "string": "text", "null": "null"}[schema["type"]]
    if "minLength" in schema or "maxLength" in schema:
        return f"{kind} of {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    if "pattern" in schema:
        return f"{kind} that matches {schema['pattern']}"
    if "exclusiveMinimum" in schema:
        return f"{kind} above {_number(schema['exclusiveMinimum'])}, at most {_number(schema['maximum'])}"
    if "maximum" in schema:
        return f"{kind} from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    return kind


def _number(value: float) -> str:
    return format(Decimal(repr(value)).normalize(), "f")  # as a person writes it: no exponent, no .0
