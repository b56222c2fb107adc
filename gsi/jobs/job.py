"""A job: a checked payload, with the id that it runs under.

An invalid payload is refused with a sentence that names the field and what is allowed.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from gsi.algorithm.seeds import derive_seed
from gsi.errors import InvalidRequestError
from gsi.jobs.errors import UnknownNamesError
from gsi.jobs.keys import DEFAULT_TENANT
from gsi.jobs.payload import PAYLOAD_FORMAT, JobPayload
from gsi.jobs.payload_errors import describe_errors
from gsi.limits import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_TOKENS

# Strings, and what stands before each value outside of strings. It always moves on: a string may lack its end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?"?|[\[{,]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Job:
    """A checked payload, and the id that it runs under."""

    id: str
    payload: JobPayload

    @property
    def seed(self) -> int:
        chosen = self.payload.params.seed
        return derive_seed("job", self.id) if chosen is None else chosen


class Newness(Enum):
    """Whether a refused payload may be one that a newer release accepts."""

    NONE = "none"  # it is wrong in itself
    POSSIBLE = "possible"  # it has unknown names, which a newer release may know, and nothing else is wrong
    CERTAIN = "certain"  # it names a newer format, or a newer release wrote what the job has kept


@dataclass(frozen=True, slots=True)
class Claim:
    """What is readable of a payload, however wrong the rest: enough for a record and a trace.

    A refused one has no ``payload`` and says why in ``refusal``. ``newness``: whether a newer release may accept it.
    """

    id: str | None = None
    tenant: str = DEFAULT_TENANT
    traceparent: str | None = None
    payload: JobPayload | None = None
    refusal: str = ""
    newness: Newness = Newness.NONE

    def accepted(self) -> JobPayload:
        """Return the payload. Raises InvalidRequestError that says why it is refused."""
        if self.payload is None:
            raise InvalidRequestError(self.refusal)
        return self.payload


def parse_payload(raw: str | bytes | Mapping[str, Any]) -> JobPayload:
    """Check a payload. Raises InvalidRequestError that names the fields at fault and what is allowed."""
    return _check(_read(raw))


def parse_job(raw: str | bytes | Mapping[str, Any]) -> Job:
    """Check a payload, and give it an id if it names none. Raises InvalidRequestError as ``parse_payload`` does."""
    found = _read(raw)
    if isinstance(found, dict) and found.get("id") is None:
        found = {**found, "id": new_id()}
    payload = _check(found)
    return Job(payload.id or new_id(), payload)


def new_id() -> str:
    """Return the id of a job that names none."""
    return secrets.token_hex(12)


def claim(raw: str | bytes, refusal: str = "") -> Claim:
    """Read a payload once: return it, or why it is refused, with the id, tenant and trace that it readably names.

    ``refusal``: why the entry is refused, whatever its payload says, which then does not choose the id. Never raises.
    """
    claimed = _claim(raw)
    if not refusal:
        return claimed
    return replace(claimed, id=None, payload=None, refusal=refusal, newness=Newness.NONE)


def _claim(raw: str | bytes) -> Claim:
    found = None
    try:
        found = _read(raw)
        payload = _check(found)
    except InvalidRequestError as error:
        said = found if isinstance(found, dict) else {}
        tenant = _readable("tenant", said) or DEFAULT_TENANT
        trace, newness = _readable("traceparent", said), _find_newness(said, error)
        return Claim(_readable("id", said), tenant, trace, refusal=str(error), newness=newness)
    return Claim(payload.id, payload.tenant, payload.traceparent, payload)


def _find_newness(said: Mapping[str, Any], error: InvalidRequestError) -> Newness:
    version = said.get("v")
    if isinstance(version, int) and version > PAYLOAD_FORMAT:
        return Newness.CERTAIN
    return Newness.POSSIBLE if isinstance(error, UnknownNamesError) else Newness.NONE


def _readable(name: str, said: Mapping[str, Any]) -> str | None:
    try:
        value: str | None = getattr(JobPayload(prompt="-", **{name: said[name]}), name)
    except (KeyError, ValueError):
        return None
    return value


def _read(raw: str | bytes | Mapping[str, Any]) -> Any:
    """Read JSON. Raises InvalidRequestError, for what is too large before anything is built of it."""
    written = raw if isinstance(raw, bytes) else _encode(raw)
    if len(written) > MAX_PAYLOAD_BYTES:
        raise InvalidRequestError(f"job: {len(written)} bytes; allowed: at most {MAX_PAYLOAD_BYTES}")
    if _has_too_many_tokens(written):
        raise InvalidRequestError(f"job: too many names and values; allowed: at most {MAX_PAYLOAD_TOKENS}")
    try:
        return from_json(written)
    except ValueError as error:
        allowed = 'an object like {"v":1,"prompt":"…"}'
        raise InvalidRequestError(f"job: not JSON ({error}); allowed: {allowed}") from None


def _has_too_many_tokens(written: bytes) -> bool:
    if len(written) <= MAX_PAYLOAD_TOKENS:  # a token has a byte at least
        return False
    return any(number > MAX_PAYLOAD_TOKENS for number, _ in enumerate(_TOKEN.finditer(written), start=1))


def _check(found: Any) -> JobPayload:
    try:
        return JobPayload.model_validate(found)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        is_unknown = all(each["type"] == "extra_forbidden" for each in errors)
        raise (UnknownNamesError if is_unknown else InvalidRequestError)(describe_errors(errors)) from None


def _encode(payload: str | Mapping[str, Any]) -> bytes:
    try:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # no form in JSON, or half a surrogate pair
        raise InvalidRequestError(f"job: not JSON ({error}); allowed: values that JSON can write") from None
