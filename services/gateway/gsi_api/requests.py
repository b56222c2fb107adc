"""The requests of ``/gsi/v1``."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from gsi.algorithm.methods import METHODS
from gsi.client.sdk import check_job
from gsi.errors import InvalidRequestError
from gsi.jobs.job_params import JobParams
from gsi.jobs.keys import QUEUE_PATTERN
from gsi.jobs.listing import JobFilter
from gsi.jobs.payload import TENANT_PATTERN
from gsi.jobs.state import JobState
from services.gateway.errors import refuse, refuse_job
from services.gateway.presets import Preset
from services.gateway.translation import Order, Sender

MAX_LISTED = 200
DEFAULT_LISTED = 50
MAX_QUERY_CHARACTERS = 200
MAX_REASON_CHARACTERS = 200
PAYLOAD_FIELDS = ("prompt", "system", "messages", "priority", "deadline_seconds", "result_ttl_seconds")

QueueName = Annotated[str | None, Query(pattern=QUEUE_PATTERN, description="Of one queue alone.")]


class JobRequest(BaseModel):
    """`POST /gsi/v1/jobs`: the fields of a job's payload, and the model whose parameters are the ground for its own."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="A name that `GET /gsi/v1/session` lists.")
    params: dict[str, Any] = Field(default_factory=dict, description="Over those of the model.")
    prompt: str | None = None
    system: str | None = None
    messages: list[dict[str, Any]] | None = None
    priority: str | None = None
    deadline_seconds: float | None = None
    result_ttl_seconds: float | None = None
    keep_candidates: bool | None = Field(None, description="Short for the parameter of this name.")


class Reason(BaseModel):
    """`POST /gsi/v1/jobs/ID/cancel`: a body is not needed."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("cancelled by POST /gsi/v1/jobs/{id}/cancel", min_length=1, max_length=MAX_REASON_CHARACTERS)


class ListRequest(BaseModel):
    """The query of `GET /gsi/v1/jobs`. An empty text is no filter."""

    model_config = ConfigDict(extra="forbid")

    queue: str | None = None
    state: str | None = None
    method: str | None = None
    tenant: str | None = Field(None, pattern=rf"^$|{TENANT_PATTERN}")
    q: str | None = Field(None, max_length=MAX_QUERY_CHARACTERS, description="A part of the id or of the question.")
    limit: int = Field(DEFAULT_LISTED, ge=1, le=MAX_LISTED)

    def to_filter(self) -> JobFilter:
        """Return which jobs are asked for. Raises ApiError that names a field at fault."""
        _check_one_of("state", self.state, [state.value for state in JobState])
        _check_one_of("method", self.method, METHODS)
        state = JobState(self.state) if self.state else None
        return JobFilter(state, self.method or None, self.tenant or None, self.q or None)


def make_order(request: JobRequest, preset: Preset, sender: Sender, ttl: float) -> Order:
    """Return a request as an order of one job, which goes on without its client. Raises ApiError for a wrong field."""
    params = {**preset.params, **request.params}
    if request.keep_candidates is not None:
        params["keep_candidates"] = request.keep_candidates
    given = {name: getattr(request, name) for name in PAYLOAD_FIELDS}
    payload: dict[str, Any] = {
        "result_ttl_seconds": ttl,
        **{name: value for name, value in given.items() if value is not None},
        "id": f"{sender.request_id}-0",
        "tenant": sender.tenant,
        "params": params,
    }
    if sender.traceparent:
        payload["traceparent"] = sender.traceparent
    if sender.idempotency_key:
        payload["idempotency_key"] = sender.idempotency_key
    try:
        job = check_job(payload)
    except InvalidRequestError as error:
        raise refuse_job(error, _name_in_request) from None
    return Order(
        model=request.model,
        preset=preset,
        jobs=(job,),
        stop=(),
        thinking=None,
        drops_low_step_below=None,
        is_stream=False,
        with_usage=False,
        with_steps=False,
        is_kept=True,
    )


def list_methods() -> list[str]:
    return list(METHODS)


def _name_in_request(field: str) -> str:
    """Return the name of a parameter that the error may name without its place."""
    return f"params.{field}" if field in JobParams.model_fields else field


def _check_one_of(name: str, given: str | None, allowed: list[str] | Mapping[str, Any]) -> None:
    if given and given not in allowed:
        raise refuse(name, f'"{given[:50]}" is not allowed; allowed: {", ".join(allowed)}')
