"""Traces by OpenTelemetry, sent by OTLP over gRPC from a thread of its own. Imported only where traces are collected.

A collector that is away costs no job anything: spans wait in a queue of bounded length and are dropped, the log says so
once a minute, and stopping waits for it no longer than ``FLUSH_SECONDS``.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Self

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gsi.runtime.tracing import NOTHING, Attribute, JobTrace, Span

log = structlog.get_logger()

MILLISECOND_NS = 1_000_000
EXPORT_SECONDS = 5.0  # for a batch, with retries
FLUSH_SECONDS = 5.0
QUIET_SECONDS = 60.0  # between two lines about a collector that is away

_propagator = TraceContextTextMapPropagator()
_current: ContextVar["OtlpSpan | None"] = ContextVar("span", default=None)


class OtlpSpan(Span):
    """A span that is collected."""

    def __init__(self, span: trace.Span, parent: "OtlpSpan | None" = None) -> None:
        self._span = span
        self._parent = parent  # that is current again when this one ends
        self.phases: set[str] = set()  # that have begun in it
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, self.context)
        self.traceparent = carrier["traceparent"]
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    @property
    def context(self) -> Context:
        """What makes a span its child."""
        return trace.set_span_in_context(self._span, Context())

    def opened(self) -> Self:
        """Make it the current one of this task."""
        _current.set(self)
        return self

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes({f"gsi.{name}": value for name, value in attributes.items() if value is not None})

    def fail(self, reason: str) -> None:
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, reason))

    def end(self) -> None:
        self._span.end()
        if _current.get() is self:
            _current.set(self._parent)


class OtlpRun(OtlpSpan):
    """An attempt, inside the span of its job."""

    def __init__(self, span: trace.Span, job: trace.Span) -> None:
        super().__init__(span)
        self._job = job
        self._is_last = False

    def end(self) -> None:
        if (step := _current.get()) not in (None, self):
            step.fail("not kept")
            step.end()
        super().end()
        if self._is_last:
            self._job.end()

    def end_job(self) -> None:
        self._is_last = True


class JobIds(RandomIdGenerator):
    """Random ids, but for the span of a job: every coordinator that has the job must give it the same."""

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
        return super().generate_trace_id() if self._job is None else _hashed("trace", self._job, bits=128)

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self._job is None else _hashed("span", self._job, bits=64)


class OtlpTracer:
    """Makes the spans of a process."""

    def __init__(self, role: str, endpoint: str, sample_ratio: float) -> None:
        _log_quietly()
        self._ids = JobIds()
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource.create({"service.name": f"gsi-{role}"}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("gsi")

    def run(self, job: JobTrace, attempt: int) -> Span:
        above = _context_of(job.traceparent)
        with self._ids.of(job):
            whole = self._tracer.start_span("job", above, start_time=job.submitted_ms * MILLISECOND_NS)
        if not whole.is_recording():  # not sampled
            return NOTHING
        run = OtlpRun(self._tracer.start_span("run", trace.set_span_in_context(whole, Context())), whole)
        whole.set_attribute("gsi.job", job.job_id)
        run.set(job=job.job_id, attempt=attempt)
        return run.opened()

    def step(self, index: int) -> Span:
        run = _current.get()
        if run is None:
            return NOTHING
        step = OtlpSpan(self._tracer.start_span("step", run.context), run)
        step.set(step=index)
        return step.opened()

    def phase(self, name: str) -> Span:
        above = _current.get()
        if above is None:
            return NOTHING
        if name == "target" and "draft" in above.phases:
            name = "resample"  # as the series of phases calls it
        above.phases.add(name)
        return OtlpSpan(self._tracer.start_span(name, above.context))

    def current(self) -> Span:
        return _current.get() or NOTHING

    def served(self, name: str, traceparent: str) -> Span:
        caller = _context_of(traceparent)
        if not trace.get_current_span(caller).get_span_context().trace_flags.sampled:  # nor is what is malformed
            return NOTHING
        return OtlpSpan(self._tracer.start_span(name, caller, trace.SpanKind.SERVER))

    def stop(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)  # it has no limit of its own
        closing.start()
        closing.join(FLUSH_SECONDS)


def _context_of(traceparent: str | None) -> Context:
    """Return the context that a W3C header names; an empty one for none, or one that is malformed."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _hashed(what: str, job: JobTrace, *, bits: int) -> int:
    digest = sha256(f"{what} {job.submitted_ms} {job.job_id}".encode(errors="replace")).digest()
    return int.from_bytes(digest[: bits // 8])


class _Quiet(logging.Handler):
    """Puts what OpenTelemetry says into our log, but no more than a line a minute."""

    _next_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + QUIET_SECONDS
            log.warning("traces may be incomplete", reason=record.getMessage())


def _log_quietly() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_Quiet()]
    logger.propagate = False
