"""Traces of jobs, made with OpenTelemetry's API.

A job is one trace: a span ``job`` from its submission to its end, in it a ``run`` for each attempt, in that a ``step``
for each step, in that the phases, and in a phase that is a call the span of the service that answers it. Until
``Tracing.start`` gets an endpoint, the API's spans do nothing. Only then the SDK and its exporter (the extra
``tracing``) are imported; a thread of theirs sends the spans by OTLP over gRPC.

An unavailable collector costs no job anything: spans wait in a queue of bounded length and are dropped, the log says so
once a minute, and a process that stops waits for the collector ``FLUSH_SECONDS`` at most.

Attributes have the names of the log's fields after the prefix ``gsi.``. They are ids, numbers and words of ours, never
a text that a user or a model wrote.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

log = structlog.get_logger()

MILLISECOND_NS = 1_000_000
EXPORT_SECONDS = 5.0  # for a batch, with retries
FLUSH_SECONDS = 5.0
QUIET_SECONDS = 60.0  # between two log lines about an unavailable collector

Attribute = str | int | float | bool | None  # None: left out

_w3c = TraceContextTextMapPropagator()
_current: ContextVar["Span | None"] = ContextVar("span", default=None)


@dataclass(frozen=True, slots=True)
class JobTrace:
    """What a job's trace is made from. Every coordinator that has the job knows the same, so all are in one trace.

    ``traceparent``: the submitter's W3C Trace Context, if there was one; the job is then in the submitter's trace.
    """

    job_id: str
    submitted_ms: int  # since 1970
    traceparent: str | None = None


class Span:
    """A piece of work, from its making to ``end``, or while it is a ``with`` block; a no-op if it is not traced."""

    def __init__(self, span: trace.Span, above: "Span | None" = None, job: trace.Span = trace.INVALID_SPAN) -> None:
        self._span = span
        self._above = above  # becomes current when this span ends
        self._job = job  # of a run: its job's own span
        self._is_last_run = False
        self.phases: set[str] = set()  # that have begun in this span

    @property
    def context(self) -> Context:
        """The context in which a child of this span begins."""
        return trace.set_span_in_context(self._span, Context())

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty if the work is not traced."""
        context = self._span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    @property
    def traceparent(self) -> str:
        """The W3C Trace Context for a service that this process calls; empty if the work is not traced."""
        return _write_traceparent(self.context) or ""

    def set(self, **attributes: Attribute) -> None:
        """Describe the work."""
        self._span.set_attributes({f"gsi.{name}": value for name, value in attributes.items() if value is not None})

    def fail(self, reason: str) -> None:
        """Mark the work as failed. ``reason`` is a word of ours: errors may quote a user's text."""
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, reason))

    def end_job(self) -> None:
        """Mark this run as the job's last: the job's own span ends with it."""
        self._is_last_run = self._span.is_recording()

    def end(self) -> None:
        """End the span. A step that is still open in it was not kept, and ends as failed."""
        innermost = _current.get()
        if innermost is not None and innermost._above is self:
            innermost.fail("not kept")
            innermost.end()
        self._span.end()
        if _current.get() is self:
            _current.set(self._above)
        if self._is_last_run:
            self._job.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        self.end()


NOTHING = Span(trace.INVALID_SPAN)  # of work that is not traced


class JobIds:
    """Random ids, except for the span of a job: every coordinator that has the job must give it the same ids.

    This is an ``IdGenerator`` of OpenTelemetry's SDK, which is imported later.
    """

    def __init__(self) -> None:
        self._job: JobTrace | None = None

    @contextmanager
    def of(self, job: JobTrace) -> Iterator[None]:
        """Give this job's ids in this block, which must not wait for anything."""
        self._job = job
        try:
            yield
        finally:
            self._job = None

    def generate_trace_id(self) -> int:
        return self._generate("trace", bits=128)

    def generate_span_id(self) -> int:
        return self._generate("span", bits=64)

    def is_trace_id_random(self) -> bool:
        """Return whether a sampler may decide by a trace id's bits: a hash is as uniform as random bits are."""
        return True

    def _generate(self, what: str, *, bits: int) -> int:
        if self._job is None:
            return random.getrandbits(bits) or 1  # 0 is no id
        text = f"{what} {self._job.submitted_ms} {self._job.job_id}"
        return int.from_bytes(sha256(text.encode(errors="replace")).digest()[: bits // 8])


class Tracing:
    """Makes the spans of this process."""

    def __init__(self) -> None:
        self._ids = JobIds()
        self._tracer: trace.Tracer = trace.NoOpTracer()
        self._provider: TracerProvider | None = None

    def start(self, role: str, endpoint: str | None, sample_ratio: float) -> None:
        """Send traces to ``endpoint`` from now on; do nothing without an endpoint."""
        if endpoint is not None:
            self._provider = _make_provider(role, endpoint, sample_ratio, self._ids)
            self._tracer = self._provider.get_tracer("gsi")

    def stop(self) -> None:
        """Send the spans that wait, for some seconds at most."""
        if self._provider is not None:
            closing = threading.Thread(target=self._provider.shutdown, daemon=True)  # it has no time limit of its own
            closing.start()
            closing.join(FLUSH_SECONDS)
        self._provider, self._tracer = None, trace.NoOpTracer()

    def begin_run(self, job: JobTrace, attempt: int) -> Span:
        """Begin an attempt. What this task and its child tasks trace from now on belongs to it."""
        with self._ids.of(job):
            submitted_ns = job.submitted_ms * MILLISECOND_NS
            whole = self._tracer.start_span("job", _read_traceparent(job.traceparent), start_time=submitted_ns)
        if not whole.is_recording():  # not sampled
            return NOTHING
        whole.set_attribute("gsi.job", job.job_id)
        run = Span(self._tracer.start_span("run", trace.set_span_in_context(whole, Context())), job=whole)
        run.set(job=job.job_id, attempt=attempt)
        _current.set(run)
        return run

    def begin_step(self, index: int) -> Span:
        """Begin a step (or round) of the run. What this task and its child tasks trace from now on belongs to it."""
        run = _current.get()
        if run is None:
            return NOTHING
        step = Span(self._tracer.start_span("step", run.context), above=run)
        step.set(step=index)
        _current.set(step)
        return step

    def begin_phase(self, name: str) -> Span:
        """Begin a phase of the step, or of the run outside of its steps; do nothing where there is no run.

        A phase "target" of a step with a phase "draft" is called "resample", as in the series of phases.
        """
        above = _current.get()
        if above is None:
            return NOTHING
        if name == "target" and "draft" in above.phases:
            name = "resample"
        above.phases.add(name)
        return Span(self._tracer.start_span(name, above.context))

    def begin_serving(self, name: str, traceparent: str) -> Span:
        """Begin a service's work on a call; do nothing if the caller is not traced or its context is malformed."""
        caller = _read_traceparent(traceparent)
        if not trace.get_current_span(caller).get_span_context().trace_flags.sampled:
            return NOTHING
        span = self._tracer.start_span(name, caller, trace.SpanKind.SERVER)
        return Span(span) if span.is_recording() else NOTHING

    def current_span(self) -> Span:
        """Return the step or the run that this task is in."""
        return _current.get() or NOTHING


tracing = Tracing()


def has_exporter() -> bool:
    """Return whether the extra ``tracing`` is installed."""
    try:
        return all(find_spec(f"opentelemetry.{name}") for name in ("sdk", "exporter.otlp.proto.grpc"))
    except ModuleNotFoundError:  # a package that contains one of them is missing
        return False


def current_traceparent() -> str | None:
    """Return the W3C Trace Context of the caller's own span, if it uses OpenTelemetry and one is active."""
    return _write_traceparent(None)


def _write_traceparent(context: Context | None) -> str | None:
    """Return the W3C header for the span of a context (None: the caller's), or None without a span."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, context)
    return carrier.get("traceparent")


def _read_traceparent(traceparent: str | None) -> Context:
    """Return the context that a W3C header names; an empty context for no header, or for a malformed one."""
    return _w3c.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _make_provider(role: str, endpoint: str, sample_ratio: float, ids: JobIds) -> "TracerProvider":
    """Return the SDK's provider, which sends to an endpoint and logs to our log."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [_Quiet()], False
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": f"gsi-{role}"}),
        shutdown_on_exit=False,
        id_generator=cast("IdGenerator", ids),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))
    return provider


class _Quiet(logging.Handler):
    """Writes what OpenTelemetry logs to our log, one line a minute at most."""

    _next_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + QUIET_SECONDS
            log.warning("traces may be incomplete", reason=record.getMessage())
