"""A job, its steps and its end, and the way to take it, for tests that do not care which job it is."""

from gsi.algorithm.candidates import FinishReason, Outcome, Source, Step
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Priority
from gsi.jobs.state import JobState
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import Hold, JobResult, JobWriter, Lease

JOB = Job("job-1", parse_payload({"prompt": "2 + 3", "params": {"n": 2}}))
DONE = JobResult(JobState.SUCCEEDED, stop_reason="eos", text="5", answer="5", params="{}")


def of_priority(job_id: str, priority: Priority) -> Job:
    return Job(job_id, JOB.payload.model_copy(update={"priority": priority}))


def step(index: int, text: str = "a step\n\n") -> StepRecord:
    kept = Step(index, (1, 2), text, Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, 0.5, 0.5)
    return StepRecord.from_step(kept, draft_tokens=4, target_tokens=0, seconds=0.01)


async def take(writer: JobWriter, stream: JobStream) -> Lease:
    """Take the next entry, which is JOB's."""
    (delivery,) = await stream.take_new(count=1, block_ms=1000)
    lease = await writer.take(JOB.id, delivery)
    assert lease is not None
    return lease


async def take_over(writer: JobWriter, stream: JobStream) -> Lease | None:
    """Take JOB over from whatever consumer has it."""
    (delivery,) = await stream.take_over(count=1, min_idle_ms=0)
    return await writer.take(JOB.id, delivery)


async def renew(writer: JobWriter, lease: Lease) -> Hold:
    """Renew one lease."""
    (hold,) = await writer.renew([lease])
    assert isinstance(hold, Hold)
    return hold


async def look_at(writer: JobWriter, lease: Lease) -> Hold:
    """Look at one lease."""
    (hold,) = await writer.look_at([lease])
    assert isinstance(hold, Hold)
    return hold
