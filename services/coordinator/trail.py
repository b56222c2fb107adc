"""What a run leaves for people to follow: its job, attempt and step in every line of the log, and its spans."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from gsi.algorithm.candidates import Outcome, Trajectory
from gsi.algorithm.stopping import StopReason
from gsi.jobs.payload import JobParams
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.writer import Lease
from gsi.runtime.tracing import NOTHING, JobTrace, Span, tracing
from services.coordinator.phases import StepClock

log = structlog.get_logger()


@contextmanager
def of_attempt(lease: Lease, traceparent: str | None) -> Iterator[Span]:
    """Trace an attempt in this block, and name its job in what this task logs from now on: a task has one job."""
    bind_contextvars(job=lease.job_id, attempt=lease.attempt)
    with tracing.run(JobTrace(lease.job_id, lease.submitted_ms, traceparent), lease.attempt) as run:
        if run.trace_id:
            bind_contextvars(trace_id=run.trace_id)
        yield run


def mark_start(params: JobParams, num_kept: int) -> None:
    """Say what the run is to do, and how many steps it need not make again."""
    log.debug("job begins", method=params.method, kept_steps=num_kept)
    tracing.current().set(
        method=params.method,
        n=params.n,
        beta=params.beta,
        acceptance_threshold=params.acceptance_threshold,
        kept_steps=num_kept,
    )


def mark_answer(trajectory: Trajectory, reason: StopReason) -> None:
    """Say what came of all steps, those of earlier attempts too."""
    accepted = [step.outcome is Outcome.ACCEPTED for step in trajectory.steps]
    rate = sum(accepted) / len(accepted) if accepted else None
    tracing.current().set(stop_reason=reason, num_steps=len(accepted), acceptance_rate=rate)


def mark_end(run: Span, state: JobState) -> None:
    """Say in which state the run left its job."""
    run.set(state=state)
    if state in {JobState.FAILED, JobState.DEAD, JobState.QUEUED}:
        run.fail(state)
    if state.is_finished:
        run.end_job()


class Steps:
    """The steps of a run, one after the other, each from its first call to its checkpoint."""

    def __init__(self, num_kept: int) -> None:
        self.clock = StepClock()
        self._index = num_kept
        self._span = NOTHING

    def begin(self) -> None:
        """Name the step in what this task logs, and trace it."""
        bind_contextvars(step=self._index)
        self._span = tracing.step(self._index)

    def end(self, record: StepRecord, phases: Mapping[str, float]) -> None:
        """Say what became of the step that has just been kept, and where its seconds went."""
        step = record.step
        log.debug("step kept", outcome=step.outcome, seconds=round(sum(phases.values()), 6))
        self._span.set(
            outcome=step.outcome,
            source=step.source,
            reward=_number(step.reward),
            tilted_reward=_number(step.tilted_reward),
            draft_tokens=record.draft_tokens,
            target_tokens=record.target_tokens,
            wait_seconds=phases["wait"],
            overhead_seconds=phases["overhead"],
        )
        self._span.end()
        unbind_contextvars("step")
        self._index += 1


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
