"""A request as jobs: a job for each choice, with the preset's parameters and the request's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsi.algorithm.methods import METHODS
from gsi.client.sdk import check_job
from gsi.errors import InvalidRequestError
from gsi.jobs.job import parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.submission import Submission
from services.gateway.errors import ApiError, refuse, refuse_job
from services.gateway.presets import Preset
from services.gateway.requests import MAX_CHOICES, CompletionRequest, GenerationRequest

PAYLOAD_OPTIONS = ("priority", "deadline_seconds", "result_ttl_seconds")
REPEATABLE_SEED = 0  # of a request with temperature 0 and no seed


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks, and under which id: the ids of the request's jobs begin with it."""

    request_id: str
    tenant: str
    traceparent: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for: its jobs in the order of the choices, and how they are answered."""

    model: str
    preset: Preset
    jobs: tuple[Submission, ...]
    stop: tuple[str, ...]
    thinking: bool | None
    drops_low_step_below: float | None  # the reward below which a step may not be part of the answer
    is_stream: bool
    with_usage: bool
    with_steps: bool
    is_kept: bool  # if the client goes away, the jobs go on


def make_order(
    request: GenerationRequest, questions: Sequence[Mapping[str, Any]], preset: Preset, sender: Sender, ttl: float
) -> Order:
    """Return a request as jobs: for each question, ``n`` choices. Raises ApiError that names a field at fault."""
    options = request.gsi_options()
    with_steps, is_kept = (_take_flag(options, name) for name in ("steps", "keep"))
    common: dict[str, Any] = {"tenant": sender.tenant, "result_ttl_seconds": ttl}
    common |= {name: options.pop(name) for name in PAYLOAD_OPTIONS if options.get(name) is not None}
    if sender.traceparent:
        common["traceparent"] = sender.traceparent
    params = _make_params(request, preset, options)
    num_choices = request.n or 1
    if len(questions) * num_choices > MAX_CHOICES:
        raise refuse("prompt", f"{len(questions)} prompts of {num_choices} choices; allowed: {MAX_CHOICES} answers")
    jobs = []
    for number in range(len(questions) * num_choices):
        place = number % num_choices
        own = {**params, "seed": params["seed"] + place} if place and params.get("seed") is not None else params
        identity = {"id": f"{sender.request_id}-{number}"}
        if sender.idempotency_key:
            identity["idempotency_key"] = f"{sender.idempotency_key}:{number}"
        jobs.append(_make_job({**common, **identity, **questions[number // num_choices], "params": own}))
    checked = _parse_params(params)
    rules = checked.to_params().stop
    return Order(
        model=request.model,
        preset=preset,
        jobs=tuple(jobs),
        stop=tuple(checked.stop),
        thinking=checked.thinking,
        drops_low_step_below=rules.reward_floor if rules.drops_low_step else None,
        is_stream=bool(request.stream),
        with_usage=bool(request.stream_options and request.stream_options.include_usage),
        with_steps=with_steps,
        is_kept=is_kept or sender.idempotency_key is not None,  # whoever repeats a request wants its answer
    )


def _make_params(request: GenerationRequest, preset: Preset, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a job: the preset's, and over them the request's."""
    asked = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": _read_max_tokens(request),
        "seed": request.seed,
        "stop": [request.stop] if isinstance(request.stop, str) else request.stop,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given.keys() & options.keys():
        if options[name] != given[name]:
            raise refuse(name, f"gsi.{name} says otherwise; allowed: one of both")
    params = {**preset.params, **options, **given}
    return _settle_greedy(params) if params.get("temperature") == 0 else params


def _settle_greedy(params: dict[str, Any]) -> dict[str, Any]:
    """Return what temperature 0 means: a repeatable answer.

    A method that compares likelihoods needs candidates that differ: it keeps its own temperature, and its seed is
    fixed. Any other method is greedy, and asks for one candidate, as all would be alike.
    """
    sampled = {name: value for name, value in params.items() if name != "temperature"}
    checked = _parse_params(sampled)
    if METHODS[checked.method].asks_likelihoods(checked.to_params()):
        return {"seed": REPEATABLE_SEED, **sampled}
    searches = params.get("beam_width") is not None or params.get("beam_expansion") is not None
    return params if searches else {**params, "n": 1, "n_target": None}


def _read_max_tokens(request: GenerationRequest) -> int | None:
    given = {name: value for name, value in request.token_limits().items() if value is not None}
    if len(set(given.values())) > 1:
        first, *_, last = given
        raise refuse(first, f"{last} says otherwise; allowed: one of both")
    return next(iter(given.values()), None)


def _parse_params(params: Mapping[str, Any]) -> JobParams:
    try:
        return parse_payload({"prompt": "-", "params": dict(params)}).params
    except InvalidRequestError as error:
        raise refuse_job(error) from None


def _make_job(payload: Mapping[str, Any]) -> Submission:
    try:
        return check_job(payload)
    except InvalidRequestError as error:
        raise refuse_job(error) from None


def _take_flag(options: dict[str, Any], name: str) -> bool:
    value = options.pop(name, False)
    if not isinstance(value, bool):
        raise refuse(f"gsi.{name}", "not a flag; allowed: true or false")
    return value


def questions_of(request: CompletionRequest) -> list[dict[str, Any]]:
    """Return the question of each prompt."""
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    if not prompts:
        raise ApiError(400, "prompt: empty; allowed: text, or a list of texts", param="prompt")
    return [{"prompt": prompt} for prompt in prompts]
