"""Traces of jobs: what the rest of the system calls, whether or not anyone collects them.

One trace a job: a span ``job`` from its submission to its end, in it a ``run`` for each attempt, in it a ``step`` each,
in it the phases, and in those that are calls the service's own span. Until ``tracing.start`` all of them are
``NOTHING``. OpenTelemetry (the extra ``tracing``) is imported by ``otlp.py`` alone, and only then.

Attributes are called as in the log, with ``gsi.`` before it. They are ids, numbers and words of ours, never a text that
a user or a model wrote.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

Attribute = str | int | float | bool | None  # None: left out


class Span:
    """A piece of work, from its making to ``end``, or while it is a ``with`` block. This one nobody collects."""

    trace_id = ""  # 32 hexadecimal digits; empty: not traced
    traceparent = ""  # W3C Trace Context of this span, for whom we call

    def set(self, **attributes: Attribute) -> None:
        """Say something about the work."""

    def fail(self, reason: str) -> None:
        """Mark the work as failed. ``reason`` is a word of ours: errors may quote a user's text."""

    def end(self) -> None:
        """End the span, and what is still open in it."""

    def end_job(self) -> None:
        """Say of a run that it is the job's last: the job's own span ends with it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        self.end()


NOTHING = Span()


@dataclass(frozen=True, slots=True)
class JobTrace:
    """A job as its trace knows it: every coordinator that has the job says the same, so all are in one trace.

    ``traceparent``: W3C Trace Context of who submitted it, if that was given; the trace is that one's then.
    """

    job_id: str
    submitted_ms: int  # since 1970
    traceparent: str | None = None


class Tracer(Protocol):
    """What makes spans once tracing has been started."""

    def run(self, job: JobTrace, attempt: int) -> Span: ...
    def step(self, index: int) -> Span: ...
    def phase(self, name: str) -> Span: ...
    def current(self) -> Span: ...
    def served(self, name: str, traceparent: str) -> Span: ...
    def stop(self) -> None: ...


class Tracing:
    """The spans of this process, by what they are spans of."""

    def __init__(self) -> None:
        self._tracer: Tracer | None = None

    def start(self, role: str, endpoint: str | None, sample_ratio: float) -> None:
        """Send traces to ``endpoint`` from now on; without one, do nothing."""
        if endpoint is not None:
            self._tracer = import_module("gsi.runtime.otlp").OtlpTracer(role, endpoint, sample_ratio)

    def stop(self) -> None:
        """Send what is left, for some seconds at most."""
        if self._tracer is not None:
            self._tracer.stop()
        self._tracer = None

    def run(self, job: JobTrace, attempt: int) -> Span:
        """Begin an attempt. What this task and those that it starts trace from now on belongs to it."""
        return self._tracer.run(job, attempt) if self._tracer else NOTHING

    def step(self, index: int) -> Span:
        """Begin a step (or round) of the run; the same holds."""
        return self._tracer.step(index) if self._tracer else NOTHING

    def phase(self, name: str) -> Span:
        """Begin a part of the step, or of the run outside of its steps; nothing where there is no run.

        A phase "target" of a step that was drafted before is called "resample".
        """
        return self._tracer.phase(name) if self._tracer else NOTHING

    def current(self) -> Span:
        """Return the step or the run that this task is in."""
        return self._tracer.current() if self._tracer else NOTHING

    def served(self, name: str, traceparent: str) -> Span:
        """Begin a service's work on a call; nothing if the caller is not traced."""
        return self._tracer.served(name, traceparent) if self._tracer and traceparent else NOTHING


tracing = Tracing()


def has_opentelemetry() -> bool:
    """Return whether the extra ``tracing`` is installed."""
    packages = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")
    try:
        return all(find_spec(package) is not None for package in packages)
    except ModuleNotFoundError:  # not even what one of them is in
        return False


def current_traceparent() -> str | None:
    """Return the W3C Trace Context of the caller's own span, if it uses OpenTelemetry and one is active."""
    if "opentelemetry.trace" not in sys.modules:  # then nobody can have started a span
        return None
    carrier: dict[str, str] = {}
    import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")
