"""What an operator can see of a run: its job and attempt in every line of the log, and its span."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.contextvars import bind_contextvars

from gsi.algorithm.candidates import Outcome, Trajectory
from gsi.algorithm.stopping import StopReason
from gsi.jobs.job_params import JobParams
from gsi.jobs.state import JobState
from gsi.jobs.writer import Lease
from gsi.runtime.tracing import JobTrace, Span, tracing

log = structlog.get_logger()


@contextmanager
def watch_run(lease: Lease, traceparent: str | None) -> Iterator[Span]:
    """Trace a run in this block, and name its job in what this task logs from now on: a task has one job."""
    bind_contextvars(job=lease.job_id, attempt=lease.attempt)
    with tracing.begin_run(JobTrace(lease.job_id, lease.submitted_ms, traceparent), lease.attempt) as run:
        if run.trace_id:
            bind_contextvars(trace_id=run.trace_id)
        yield run


def report_start(params: JobParams, num_kept: int) -> None:
    """Report what the run is to do, and how many steps earlier attempts have kept."""
    log.debug("job begins", method=params.method, kept_steps=num_kept)
    tracing.current_span().set(
        method=params.method,
        n=params.n,
        beta=params.beta,
        acceptance_threshold=params.acceptance_threshold,
        kept_steps=num_kept,
    )


def report_answer(trajectory: Trajectory, reason: StopReason) -> None:
    """Report the outcomes of all steps, also of those that earlier attempts kept."""
    accepted = [step.outcome is Outcome.ACCEPTED for step in trajectory.steps]
    rate = sum(accepted) / len(accepted) if accepted else None
    tracing.current_span().set(stop_reason=reason, num_steps=len(accepted), acceptance_rate=rate)


def report_end(run: Span, state: JobState) -> None:
    """Report the state in which the run left its job."""
    run.set(state=state)
    if state in {JobState.FAILED, JobState.DEAD, JobState.QUEUED}:
        run.fail(state)
    if state.is_finished:
        run.end_job()
