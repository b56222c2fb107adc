"""The context of a call: the id, attempt and step of its job, and the trace of the job, all as metadata.

The service that answers puts them into its log, so that the lines of a job are found in every process.
"""

from collections.abc import Iterable
from urllib.parse import quote, unquote

import grpc
import structlog

from gsi.runtime.tracing import Attribute, Span, tracing

FIELDS = ("job", "attempt", "step")  # in the log; as metadata their names begin with gsi-
TRACEPARENT = "traceparent"
MAX_CHARACTERS = 128  # of a field: a caller may be a stranger, and must not fill headers and logs
MAX_DIGITS = 9

Metadata = tuple[tuple[str, str], ...]


def begin_serving(name: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Span:
    """Bind the caller's job to the log of this call, and begin the call's span in the job's trace.

    The call must have an asyncio task of its own.
    """
    fields, traceparent = incoming(metadata)
    span = tracing.begin_serving(name, traceparent)
    span.set(**fields)
    structlog.contextvars.bind_contextvars(**fields, **({"trace_id": span.trace_id} if span.trace_id else {}))
    return span


def end(span: Span, code: grpc.StatusCode) -> None:
    """End the span of a call, on the client's or the server's side. A cancelled call has not failed."""
    span.set(code=code.name)
    if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        span.fail(code.name)
    span.end()


def job() -> str:
    """Return the id of the job that is bound to the log of this task; "" if none is."""
    return str(structlog.contextvars.get_contextvars().get("job", ""))


def outgoing(traceparent: str) -> Metadata:
    """Return the metadata for a call, by the job that is bound to the log of this task."""
    bound = structlog.contextvars.get_contextvars()
    fields = ((f"gsi-{name}", quote(str(bound[name])[:MAX_CHARACTERS])) for name in FIELDS if name in bound)
    return (*fields, (TRACEPARENT, traceparent)) if traceparent else tuple(fields)


def incoming(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[dict[str, Attribute], str]:
    """Return the log fields in a call's metadata, and the caller's W3C Trace Context, which may be empty."""
    found = {name: value for name, value in metadata or () if isinstance(value, str)}
    fields = {name: _parse_field(name, found[f"gsi-{name}"]) for name in FIELDS if f"gsi-{name}" in found}
    return fields, found.get(TRACEPARENT, "")


def _parse_field(name: str, value: str) -> Attribute:
    text = unquote(value)[:MAX_CHARACTERS]
    if not text.isprintable():  # a line of the log must stay one line
        return repr(text)
    is_number = name != "job" and text.isdecimal() and len(text) <= MAX_DIGITS
    return int(text) if is_number else text
