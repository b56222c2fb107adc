"""A job: a checked payload, with the id that it runs under.

An invalid payload is refused with a sentence that names the field and what is allowed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gsi.algorithm.seeds import derive_seed
from gsi.errors import InvalidRequestError
from gsi.jobs.keys import DEFAULT_TENANT
from gsi.jobs.payload import JobPayload
from gsi.jobs.payload_errors import describe_error

MAX_PAYLOAD_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """A checked payload, and the id that it runs under."""

    id: str
    payload: JobPayload

    @property
    def seed(self) -> int:
        chosen = self.payload.params.seed
        return derive_seed("job", self.id) if chosen is None else chosen


def parse_payload(raw: str | bytes | Mapping[str, Any]) -> JobPayload:
    """Check a payload. Raises InvalidRequestError that names each field at fault and what is allowed."""
    written = raw if isinstance(raw, bytes) else _encode(raw)
    if len(written) > MAX_PAYLOAD_BYTES:
        raise InvalidRequestError(f"job: {len(written)} bytes; allowed: at most {MAX_PAYLOAD_BYTES}")
    try:
        return JobPayload.model_validate_json(written)
    except ValidationError as error:
        raise InvalidRequestError("; ".join(describe_error(e) for e in error.errors(include_url=False))) from None


def _encode(payload: str | Mapping[str, Any]) -> bytes:
    try:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return text.encode()
    except (TypeError, ValueError) as error:  # a value without a form in JSON, or half a surrogate pair
        raise InvalidRequestError(f"job: not JSON ({error}); allowed: values that JSON can write") from None


@dataclass(frozen=True, slots=True)
class Claim:
    """What is readable of a payload, however wrong the rest: enough for a record and a trace.

    ``payload`` is None if the payload is refused; ``parse_payload`` then raises the reason.
    """

    id: str | None
    tenant: str
    traceparent: str | None = None
    payload: JobPayload | None = None


def claim(raw: str | bytes) -> Claim:
    """Return the id, the tenant and the trace that a payload names, as far as they are readable and allowed."""
    nothing = Claim(None, DEFAULT_TENANT)
    if len(raw) > MAX_PAYLOAD_BYTES:
        return nothing
    try:
        payload = JobPayload.model_validate_json(raw)
    except ValueError:
        return _claim_of_refused(raw) or nothing
    return Claim(payload.id, payload.tenant, payload.traceparent, payload)


def _claim_of_refused(raw: str | bytes) -> Claim | None:
    try:
        found = json.loads(raw)
        said = {name: found[name] for name in ("id", "tenant", "traceparent") if name in found}
    except (ValueError, TypeError, RecursionError):
        return None
    tenant = _readable("tenant", said, DEFAULT_TENANT) or DEFAULT_TENANT
    return Claim(_readable("id", said, None), tenant, _readable("traceparent", said, None))


def _readable(name: str, said: Mapping[str, Any], default: str | None) -> str | None:
    try:
        value: str | None = getattr(JobPayload(prompt="-", **{name: said[name]}), name)
    except (KeyError, ValueError):
        return default
    return value
