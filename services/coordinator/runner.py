"""One job: take it, go on after its last step, keep every step, commit its result."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gsi.algorithm.answer import write_answer
from gsi.algorithm.candidates import Prompt, Trajectory
from gsi.algorithm.methods.rounds import Answers
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from gsi.errors import InvalidRequestError
from gsi.grading.equality import EqualityChecker
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.connection import RedisError
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import Delivery
from gsi.jobs.writer import JobResult, JobWriter, Lease, LeaseLostError
from gsi.runtime.tracing import tracing
from services.coordinator import metrics, trail
from services.coordinator.leases import LeaseKeeper, Run
from services.coordinator.models import Models
from services.coordinator.retries import GivenUpError, patiently
from services.coordinator.trail import Steps

log = structlog.get_logger()

MAX_RETRY_SECONDS = 300.0
JITTER = (0.5, 1.5)  # so that jobs that failed together do not come back together
INTERNAL_ERROR = "internal error; the coordinator's log has it"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that may go better another time."""

    error: str


End = JobResult | Failure


class JobRunner:
    """Runs deliveries, each to its end: an answer, or an error that names the field at fault."""

    def __init__(
        self,
        writer: JobWriter,
        reader: JobReader,
        models: Models,
        leases: LeaseKeeper,
        equality: EqualityChecker,
        retry_seconds: float,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._equality = equality
        self._models = models
        self._leases = leases
        self._retry_seconds = retry_seconds

    async def run(self, delivery: Delivery) -> None:
        """Run one delivery. Raises LeaseLostError if another coordinator has taken the job meanwhile."""
        claimed = claim(delivery.payload)
        job_id = claimed.id or delivery.job_id or delivery.entry_id
        lease = await self._writer.take(job_id, delivery, claimed.tenant)
        if lease is None:
            return
        started = time.perf_counter()
        with trail.of_attempt(lease, claimed.traceparent) as span:
            async with self._leases.held(lease) as run:
                end = await self._unless_cancelled(self._result(delivery, lease), run)
                state = await self._end(lease, end)
                trail.mark_end(span, state)
                await self._writer.unpark(lease.tenant)
        metrics.observe_job(state, time.perf_counter() - started)
        log.info("job ended", state=state, error=end.error)

    async def _unless_cancelled(self, work: Coroutine[Any, Any, End], run: Run) -> End:
        """Do the work; if the job is cancelled meanwhile, that is how it ended."""
        task = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if not run.cancel_reason or task is None:
                raise  # the lease is lost, or the coordinator stops
            task.uncancel()
            return JobResult(JobState.CANCELLED, error=run.cancel_reason)

    async def _end(self, lease: Lease, end: End) -> JobState:
        """Write how the run ended; return the job's state."""
        if isinstance(end, JobResult):
            await self._writer.commit(lease, end)
            return end.state
        pause = min(MAX_RETRY_SECONDS / max(JITTER), self._retry_seconds * 2 ** (lease.attempt - 1))
        delay = pause * random.uniform(*JITTER)
        state = await self._writer.retry(lease, end.error, delay)
        (metrics.DEAD_LETTERS if state is JobState.DEAD else metrics.RETRIES).inc()
        return state

    async def _result(self, delivery: Delivery, lease: Lease) -> End:
        """Return how the run ended, whatever happens to it but the loss of Redis or of the lease."""
        try:
            job = Job(lease.job_id, parse_payload(delivery.payload))
        except InvalidRequestError as error:
            return JobResult(JobState.FAILED, error=str(error))
        except Exception:  # a refusal that we cannot put into words is a fault of ours, and must not end the run unseen
            log.exception("payload not read")
            return Failure(INTERNAL_ERROR)
        end = await self._in_time(job, lease)
        return replace(end, lifetime_seconds=job.payload.result_ttl_seconds) if isinstance(end, JobResult) else end

    async def _in_time(self, job: Job, lease: Lease) -> End:
        deadline = job.payload.deadline_seconds
        try:
            async with asyncio.timeout(None if deadline is None else deadline - lease.age_seconds):
                return await self._attempt(job, lease)
        except TimeoutError:  # the job's: another one is a failure of the attempt
            return JobResult(JobState.EXPIRED, error=f"deadline_seconds: {deadline:g} have passed")

    async def _attempt(self, job: Job, lease: Lease) -> End:
        try:
            return await self._answer(job, lease)
        except InvalidRequestError as error:
            return JobResult(JobState.FAILED, error=str(error))
        except GivenUpError as error:
            return Failure(str(error))
        except (LeaseLostError, RedisError):
            raise
        except Exception:
            log.exception("job failed")
            return Failure(INTERNAL_ERROR)

    async def _answer(self, job: Job, lease: Lease) -> JobResult:
        """Write the answer from the last kept step on."""
        limits = self._models.limits
        params = job.payload.params.in_force(has_bounded_rewards=limits.has_bounded_rewards, seed=job.seed)
        limits.check(params)
        kept = await self._reader.steps(job.id)
        prompt = await patiently(self._models, lambda: self._prompt(job))
        finder = AnswerFinder(params.answer_pattern)
        trail.mark_start(params, num_kept=len(kept))
        steps, in_force = Steps(num_kept=len(kept)), params.to_params()
        trajectory, reason = await write_answer(
            Trajectory(prompt),
            [record.round for record in kept],
            in_force,
            self._models.ports,
            job.seed,
            keep=lambda made: self._keep(lease, made, in_force, steps, keep_candidates=params.keep_candidates),
            max_length=limits.max_length,
            answers=Answers(finder.find, self._equality.are_equal),
            attempt=lambda make: self._make(make, steps),
        )
        trail.mark_answer(trajectory, reason)
        return JobResult(
            JobState.SUCCEEDED,
            stop_reason=reason,
            text=trajectory.text,
            answer=finder.find(trajectory.text) or "",
            params=params.model_dump_json(),
            models=self._models.description,
        )

    async def _prompt(self, job: Job) -> Prompt:
        messages = job.payload.messages
        token_ids = await self._models.draft.render(messages)
        longest = self._models.limits.max_length - 1
        if len(token_ids) > longest:
            raise InvalidRequestError(
                f"prompt: {len(token_ids)} tokens by the model's chat template; "
                f"allowed: 1 to {longest}, which leaves room for a token in the models' context"
            )
        return Prompt(messages, token_ids)

    async def _make(self, make: Callable[[], Awaitable[Round]], steps: Steps) -> Round:
        """Make a step; make the same one again if a service was away meanwhile."""
        steps.begin()
        return await patiently(self._models, make, steps.clock.waited)

    async def _keep(self, lease: Lease, made: Round, params: Params, steps: Steps, *, keep_candidates: bool) -> None:
        record = StepRecord.of(made, keep_candidates=keep_candidates)
        began = time.perf_counter()
        with tracing.phase("checkpoint"):
            await self._writer.append_step(lease, record)
        phases = steps.clock.lap(made, began)
        metrics.observe_step(made, params, phases)
        steps.end(record, phases)
