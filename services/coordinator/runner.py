"""One job: take it, resume after its last kept step, keep every step, commit its result."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gsi.algorithm.candidates import Prompt, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.method import Answers
from gsi.algorithm.round import Round
from gsi.errors import InvalidRequestError, cut_message
from gsi.grading.equality import EqualityChecker
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.connection import RedisError
from gsi.jobs.errors import NewerReleaseError
from gsi.jobs.job import Claim, Job, Newness, claim
from gsi.jobs.kept_prompt import KeptPrompt
from gsi.jobs.keys import Keys
from gsi.jobs.newer_jobs import NewerJobs
from gsi.jobs.payload import JobPayload
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import Delivery
from gsi.jobs.thinking import split_reasoning
from gsi.jobs.writer import JobResult, JobWriter, Lease, LeaseLostError
from gsi.runtime.code_version import describe_code
from services.coordinator import metrics
from services.coordinator.leases import LeaseKeeper, RunningJob
from services.coordinator.models import Models
from services.coordinator.retries import GivenUpError, call_with_retries
from services.coordinator.run_watch import report_answer, report_end, report_start, watch_run
from services.coordinator.step_watch import StepWatch

log = structlog.get_logger()

MAX_RETRY_SECONDS = 300.0
JITTER = (0.5, 1.5)  # so that jobs that failed together do not come back together
INTERNAL_ERROR = "internal error; the coordinator's log has it"


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a run that may succeed in another attempt."""

    error: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The end of a run that could not begin: a newer release may be able to read the job."""

    error: str
    newness: Newness


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run keeps beside its steps: the prompt with the first of them, unless an earlier run kept it."""

    num_steps: int  # of earlier runs
    prompt: KeptPrompt | None
    with_candidates: bool

    def prompt_of(self, index: int) -> KeptPrompt | None:
        """Return the prompt if it is to be kept with this step."""
        return self.prompt if index == self.num_steps else None


End = JobResult | Failure | Unreadable


class JobRunner:
    """Runs each delivery to its end: an answer, or an error that names the field at fault."""

    def __init__(
        self,
        writer: JobWriter,
        reader: JobReader,
        models: Models,
        leases: LeaseKeeper,
        equality: EqualityChecker,
        newer_jobs: NewerJobs,
        retry_seconds: float,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._equality = equality
        self._newer_jobs = newer_jobs
        self._models = models
        self._leases = leases
        self._retry_seconds = retry_seconds

    async def run(self, delivery: Delivery) -> None:
        """Run one delivery. Raises LeaseLostError if another coordinator has taken the job meanwhile."""
        claimed = claim(delivery.payload, delivery.refusal)
        job_id = claimed.id or delivery.job_id or delivery.entry_id
        lease = await self._writer.take(job_id, delivery, claimed.tenant)
        if lease is None:
            return
        started = time.perf_counter()
        with watch_run(lease, claimed.traceparent) as span, self._models.placing(job_id):
            async with self._leases.hold(lease) as running:
                end = await self._work_unless_cancelled(self._attempt(claimed, lease), running)
                state = await self._finish(lease, end)
                report_end(span, state)
                await self._writer.unpark(lease.tenant)
        seconds = time.perf_counter() - started
        metrics.observe_job(state, seconds)
        metrics.observe_tenant(lease.tenant, state, seconds)
        if state.is_finished:
            metrics.observe_end(Keys.priority_of(lease.lane), state, lease.age_seconds + seconds)
        log.info("job ended", state=state, error=end.error)

    async def _work_unless_cancelled(self, work: Coroutine[Any, Any, End], running: RunningJob) -> End:
        """Do the work, and return its end; if the job is cancelled meanwhile, return that end."""
        task = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if not running.cancel_reason or task is None:
                raise  # the lease is lost, or the coordinator stops
            task.uncancel()
            return JobResult(JobState.CANCELLED, error=running.cancel_reason)

    async def _finish(self, lease: Lease, end: End) -> JobState:
        """Write how the run ended; return the job's state."""
        if isinstance(end, JobResult):
            await self._writer.commit(lease, end)
            return end.state
        if isinstance(end, Unreadable):
            return await self._put_back(lease, end)
        pause = min(MAX_RETRY_SECONDS / max(JITTER), self._retry_seconds * 2 ** (lease.attempt - 1))
        delay = pause * random.uniform(*JITTER)
        state = await self._writer.retry(lease, end.error, delay)
        (metrics.DEAD_LETTERS if state is JobState.DEAD else metrics.RETRIES).inc()
        return state

    async def _put_back(self, lease: Lease, end: Unreadable) -> JobState:
        """Leave the job to a coordinator of a newer release, or fail it once it has waited long enough for one."""
        state = await self._newer_jobs.put_back(lease, end.error, end.newness)
        if state is not None:
            metrics.PUT_BACK.inc()
            return state
        error = end.error
        if end.newness is Newness.CERTAIN:
            error = cut_message(f"no coordinator of a newer release has taken the job; {error}")
        await self._writer.commit(lease, JobResult(JobState.FAILED, error=error))
        return JobState.FAILED

    async def _attempt(self, claimed: Claim, lease: Lease) -> End:
        """Return how the run ended, whatever happened to it except the loss of Redis or of the lease."""
        if claimed.newness is not Newness.NONE:
            return Unreadable(claimed.refusal, claimed.newness)
        lifetime = claimed.payload.result_ttl_seconds if claimed.payload else None
        try:
            return replace(await self._answer_in_time(claimed.accepted(), lease), lifetime_seconds=lifetime)
        except NewerReleaseError as error:
            return Unreadable(str(error), Newness.CERTAIN)
        except InvalidRequestError as error:
            return JobResult(JobState.FAILED, error=str(error), lifetime_seconds=lifetime)
        except GivenUpError as error:
            return Failure(str(error))
        except (LeaseLostError, RedisError):
            raise
        except Exception:
            log.exception("job failed")
            return Failure(INTERNAL_ERROR)

    async def _answer_in_time(self, payload: JobPayload, lease: Lease) -> JobResult:
        """Return the answer, or EXPIRED once the job's deadline has passed."""
        deadline = payload.deadline_seconds
        limit = asyncio.timeout(None if deadline is None else deadline - lease.age_seconds)
        try:
            async with limit:
                return await self._answer(Job(lease.job_id, payload), lease)
        except TimeoutError:
            if not limit.expired():
                raise  # not the deadline, but a failure of the attempt
            return JobResult(JobState.EXPIRED, error=f"deadline_seconds: {deadline:g} have passed")

    async def _answer(self, job: Job, lease: Lease) -> JobResult:
        """Write the answer, starting after the last kept step."""
        limits = self._models.limits
        params = job.payload.params.in_force(has_bounded_rewards=limits.has_bounded_rewards, seed=job.seed)
        limits.check(params)
        kept = await self._reader.steps(job.id)
        rendered, to_keep = await self._find_prompt(job, len(kept))
        finder = AnswerFinder(params.answer_pattern, params.thinking, params.stop)
        in_force = limits.fit(params.to_params())
        report_start(params, num_kept=len(kept))
        watch = StepWatch(in_force, num_kept=len(kept))
        trajectory, reason = await generate(
            Trajectory(Prompt(job.payload.conversation, rendered.token_ids)),
            in_force,
            self._models.ports,
            job.seed,
            keep=lambda made: self._keep(lease, made, watch, to_keep),
            max_length=limits.max_length,
            kept=[record.to_branches() for record in kept],
            answers=Answers(finder.find, self._equality.start_vote().are_equal, finder.has_answer),
            attempt=lambda make: self._make(make, watch),
            lookahead=self._models.lookahead,
        )
        text = finder.cut(trajectory.text)
        answer = await asyncio.to_thread(finder.find, text)  # a job's pattern must not delay other jobs
        report_answer(trajectory, reason)
        reasoning, text = split_reasoning(text, params.thinking)
        return JobResult(
            JobState.SUCCEEDED,
            stop_reason=reason,
            text=text,
            reasoning=reasoning,
            answer=answer or "",
            params=params.model_dump_json(),
            models=self._models.description,
            router=limits.name_router(params.method),
            prompt_tokens=str(len(rendered.token_ids)),
            rendered_prompt=rendered.text,
            code=describe_code(),
        )

    async def _find_prompt(self, job: Job, num_kept: int) -> tuple[KeptPrompt, Kept]:
        """Return the prompt that kept steps follow, or render it, and what is to be kept with the steps to come."""
        with_candidates = job.payload.params.keep_candidates
        if num_kept and (of_record := await self._reader.prompt(job.id)):
            return of_record, Kept(num_kept, None, with_candidates)
        rendered = await call_with_retries(self._models, lambda: self._render_prompt(job))
        return rendered, Kept(num_kept, rendered, with_candidates)

    async def _render_prompt(self, job: Job) -> KeptPrompt:
        """Return the prompt by the chat template, with its text if the job asks for a full record."""
        messages, text = job.payload.conversation, ""
        if job.payload.params.keep_candidates:
            token_ids, text = await self._models.draft.render_with_text(messages)
        else:
            token_ids = await self._models.draft.render(messages)
        longest = self._models.limits.max_length - 1
        if len(token_ids) > longest:
            raise InvalidRequestError(
                f"prompt: {len(token_ids)} tokens by the model's chat template; "
                f"allowed: 1 to {longest}, which leaves room for a token in the models' context"
            )
        return KeptPrompt(token_ids=token_ids, text=text)

    async def _make(self, make: Callable[[], Awaitable[Round]], watch: StepWatch) -> Round:
        watch.begin()
        return await call_with_retries(self._models, make, watch.note_wait)

    async def _keep(self, lease: Lease, made: Round, watch: StepWatch, to_keep: Kept) -> None:
        record = StepRecord.from_round(made, keep_candidates=to_keep.with_candidates, index=watch.index)
        with watch.checkpoint(made):
            await self._writer.append_step(lease, record, to_keep.prompt_of(record.index))
