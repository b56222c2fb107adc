"""The headers of a request that change its jobs."""

import re

from starlette.datastructures import Headers

from gsi.jobs.payload import TRACEPARENT_PATTERN
from services.gateway.errors import ApiError

MAX_IDEMPOTENCY_CHARACTERS = 200  # a job's key has 256, and a choice's number is added
_NAMES_NO_SPAN = re.compile(r"^00-(0{32}-.*|.*-0{16}-..)$")


def read_traceparent(headers: Headers) -> str | None:
    """Return the W3C trace context; None if there is none, or one that the standard says to ignore."""
    given = headers.get("traceparent", "")
    return given if re.fullmatch(TRACEPARENT_PATTERN, given) and not _NAMES_NO_SPAN.match(given) else None


def read_idempotency_key(headers: Headers) -> str | None:
    """Return the key under which a repeated request gets the first one's answer. Raises ApiError if it is too long."""
    given = headers.get("idempotency-key")
    if given is not None and not 1 <= len(given) <= MAX_IDEMPOTENCY_CHARACTERS:
        message = f"Idempotency-Key: {len(given)} characters; allowed: 1 to {MAX_IDEMPOTENCY_CHARACTERS}"
        raise ApiError(400, message, param="Idempotency-Key")
    return given
