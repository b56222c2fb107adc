"""What of a job goes along with a call: its id, its attempt and its step, and the trace that they are in.

They travel as metadata and stand in the log of whoever answers, so that a job's lines are found in every process.
"""

from collections.abc import Iterable
from urllib.parse import quote, unquote

import grpc
import structlog

from gsi.runtime.tracing import Attribute, Span, tracing

FIELDS = ("job", "attempt", "step")  # of the log; as metadata gsi-job, …
TRACEPARENT = "traceparent"
MAX_CHARACTERS = 128  # of a field: neither gRPC's headers nor a log are a place for what strangers write
MAX_DIGITS = 9

Metadata = tuple[tuple[str, str], ...]


def begin_serving(name: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Span:
    """Name the caller's job in the log of this call, whose task is its own; begin the call's span in its trace."""
    fields, traceparent = incoming(metadata)
    span = tracing.begin_serving(name, traceparent)
    span.set(**fields)
    structlog.contextvars.bind_contextvars(**fields, **({"trace_id": span.trace_id} if span.trace_id else {}))
    return span


def end(span: Span, code: grpc.StatusCode) -> None:
    """End the span of a call, at either side. A call that its caller gave up has not failed."""
    span.set(code=code.name)
    if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        span.fail(code.name)
    span.end()


def outgoing(traceparent: str) -> Metadata:
    """Return the metadata of a call that is made for the job of this task."""
    bound = structlog.contextvars.get_contextvars()
    fields = ((f"gsi-{name}", quote(str(bound[name])[:MAX_CHARACTERS])) for name in FIELDS if name in bound)
    return (*fields, (TRACEPARENT, traceparent)) if traceparent else tuple(fields)


def incoming(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[dict[str, Attribute], str]:
    """Return the log's fields that a call came with, and the caller's W3C Trace Context, or an empty text."""
    found = {name: value for name, value in metadata or () if isinstance(value, str)}
    fields = {name: _read(name, found[f"gsi-{name}"]) for name in FIELDS if f"gsi-{name}" in found}
    return fields, found.get(TRACEPARENT, "")


def _read(name: str, value: str) -> Attribute:
    text = unquote(value)[:MAX_CHARACTERS]
    if not text.isprintable():  # a line of the log stays one
        return repr(text)
    is_number = name != "job" and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else text
