"""Dead letters on a real server: listed, shown, retried, purged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from gsi.cli import render
from gsi.errors import InvalidRequestError
from gsi.jobs import dead_letters
from gsi.jobs.dead_letters import DeadLetter, DeadLetters
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, Lease
from tests.jobs.sample import step


class Queue:
    """A queue whose jobs are tried once, with one coordinator."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.redis: Any = redis
        self.keys = Keys(queue)
        self.submitter, self.reader = JobSubmitter(redis, self.keys), JobReader(redis, self.keys)
        self.writer = JobWriter(redis, self.keys, Policy(max_attempts=1))
        self.stream = JobStream(redis, self.keys, "coordinator")
        self.dead = DeadLetters(redis, self.keys)

    async def take(self) -> Lease:
        (delivery,) = await self.stream.take_new(count=1, block_ms=100)
        fields = await self.redis.xrange(self.keys.jobs, delivery.entry_id, delivery.entry_id)
        lease = await self.writer.take(parse_payload(fields[0][1][b"job"]).id or "", delivery)
        assert lease is not None
        return lease

    async def bury(self, job_id: str) -> None:
        """Let a job keep a step and die."""
        await self.submitter.submit(Job(job_id, parse_payload({"prompt": "-", "deadline_seconds": 600})))
        lease = await self.take()
        await self.writer.append_step(lease, step(0))
        assert await self.writer.retry(lease, "prm: INTERNAL", delay_seconds=0) is JobState.DEAD

    async def letters(self) -> list[DeadLetter]:
        return [letter async for letter in self.dead.letters()]


@pytest.fixture
async def dying(redis: Redis, queue: str) -> Queue:
    made = Queue(redis, queue)
    await made.stream.create_group()
    return made


async def test_dead_jobs_are_listed_with_why_and_when(dying: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, however many pages they fill."""
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    for number in range(5):
        await dying.bury(f"job-{number}")
    letters = await dying.letters()
    assert [letter.job_id for letter in letters] == [f"job-{number}" for number in range(5)]
    assert {(letter.reason, letter.error) for letter in letters} == {("tried 1 times", "prm: INTERNAL")}
    record = await dying.dead.show("job-3")
    assert record.to_dict()["finished_at"] == pytest.approx(letters[3].died_at, abs=0.01)
    assert len(record.steps) == 1


async def test_a_dead_job_that_is_retried_is_as_new_but_for_its_steps(dying: Queue) -> None:
    """It no longer expires, its attempts count from 1 again, and nothing is left of its failure."""
    await dying.bury("job-1")
    await dying.bury("job-2")
    await dying.dead.retry("job-1")
    record = await dying.reader.record("job-1")
    assert record is not None
    assert (record.state, record.fields["attempt"], len(record.steps)) == (JobState.QUEUED, "0", 1)
    assert not {"error", "dead_reason", "last_error", "finished_at"} & record.fields.keys()
    for key in (dying.keys.record("job-1"), dying.keys.steps("job-1")):
        assert await dying.redis.pttl(key) == -1
    assert [letter.job_id for letter in await dying.letters()] == ["job-2"]
    lease = await dying.take()
    assert (lease.job_id, lease.attempt) == ("job-1", 1)
    await dying.writer.append_step(lease, step(1))
    await dying.writer.commit(lease, JobResult(JobState.SUCCEEDED))
    assert await dying.redis.xlen(dying.keys.jobs) == 0


async def test_the_deadline_of_a_retried_job_begins_anew(dying: Queue) -> None:
    """A person still wants the job; with its old deadline it would be EXPIRED at once."""
    await dying.bury("job-1")
    await dying.redis.hset(dying.keys.record("job-1"), "submitted_at", 1_000)
    await dying.dead.retry("job-1")
    assert (await dying.take()).age_seconds < 60


async def test_a_retried_job_may_die_again(dying: Queue) -> None:
    """It is listed once."""
    await dying.bury("job-1")
    await dying.dead.retry("job-1")
    await dying.writer.retry(await dying.take(), "prm: UNAVAILABLE", delay_seconds=0)
    assert [letter.error for letter in await dying.letters()] == ["prm: UNAVAILABLE"]


async def test_only_a_dead_job_can_be_retried_or_shown(dying: Queue) -> None:
    """The sentence says what the job is instead; nothing is pushed."""
    await dying.submitter.submit(Job("alive", parse_payload({"prompt": "-"})))
    for ask in (dying.dead.retry, dying.dead.show):
        with pytest.raises(InvalidRequestError, match="id: job alive is QUEUED; allowed: a job that is DEAD"):
            await ask("alive")
        with pytest.raises(InvalidRequestError, match="id: no job nobody in this queue"):
            await ask("nobody")
    assert await dying.redis.xlen(dying.keys.jobs) == 1


async def test_all_dead_jobs_are_retried_at_once(dying: Queue) -> None:
    """A letter whose record has expired is passed over."""
    for number in range(3):
        await dying.bury(f"job-{number}")
    await dying.redis.delete(dying.keys.record("job-1"))
    assert await dying.dead.retry_all() == 2
    assert {(await dying.take()).job_id for _ in range(2)} == {"job-0", "job-2"}
    assert [letter.job_id for letter in await dying.letters()] == ["job-1"]


async def test_purging_deletes_dead_jobs_with_their_steps(dying: Queue) -> None:
    """Either all of them or those that died before a time; a job that runs again by then stays."""
    await dying.bury("old")
    await dying.bury("again")
    assert await dying.dead.purge(datetime.now(UTC) - timedelta(hours=1)) == 0
    await dying.redis.hset(dying.keys.record("again"), "state", "RUNNING")
    assert await dying.dead.purge(datetime.now(UTC) + timedelta(hours=1)) == 2
    assert not await dying.redis.exists(dying.keys.record("old"), dying.keys.steps("old"))
    assert await dying.redis.exists(dying.keys.record("again"), dying.keys.steps("again")) == 2
    await dying.bury("new")
    assert await dying.dead.purge() == 1
    assert await dying.letters() == []


async def test_a_job_that_waits_for_its_next_attempt_says_what_its_last_run_met(dying: Queue) -> None:
    """``gsi result`` shows the error; once the job has finished, it shows the end alone."""
    writer = dying.writer = JobWriter(dying.redis, dying.keys, Policy(max_attempts=2))
    await dying.submitter.submit(Job("job-1", parse_payload({"prompt": "-"})))
    await writer.retry(await dying.take(), "prm: INTERNAL", delay_seconds=0)
    assert await shown(dying.reader) == "QUEUED  its last run failed: prm: INTERNAL"
    await writer.promote_due()
    await writer.commit(await dying.take(), JobResult(JobState.SUCCEEDED, answer="5"))
    assert await shown(dying.reader) == "SUCCEEDED  answer 5"


async def shown(reader: JobReader) -> str:
    record = await reader.record("job-1")
    assert record is not None
    return render.render_end(record).plain
