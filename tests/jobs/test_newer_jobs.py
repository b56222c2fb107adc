"""A queue that coordinators of two releases share, on a real server: the older one leaves alone what it cannot read."""

import json
from typing import Any

import pytest

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import Redis
from gsi.jobs.errors import NewerReleaseError
from gsi.jobs.job import Newness, claim, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.newer_jobs import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, NewerJobs
from gsi.jobs.payload import PAYLOAD_FORMAT
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter, Lease
from tests.jobs.sample import JOB, step, take

NEWER = PAYLOAD_FORMAT + 1
PATIENCE_SECONDS = 60.0
POLICY = Policy(newer_seconds=PATIENCE_SECONDS)


@pytest.fixture
def older(redis: Redis, keys: Keys, writer: JobWriter) -> NewerJobs:
    return NewerJobs(redis, keys, writer, POLICY)


@pytest.fixture
def newer(redis: Redis, keys: Keys, writer: JobWriter) -> NewerJobs:
    return NewerJobs(redis, keys, writer, POLICY, payload_format=NEWER)


@pytest.fixture
async def lease(submitter: JobSubmitter, writer: JobWriter, stream: JobStream) -> Lease:
    await submitter.submit(JOB)
    return await take(writer, stream)


async def take_again(redis: Redis, keys: Keys, writer: JobWriter, stream: JobStream) -> Lease:
    """Take the job again without waiting for the end of its pause."""
    raw: Any = redis
    await raw.zadd(keys.delayed, {JOB.id: 1})
    assert await writer.promote_due() == 1
    return await take(writer, stream)


@pytest.mark.parametrize(
    ("payload", "newness"),
    [
        ({"prompt": "?", "v": NEWER}, Newness.CERTAIN),
        ({"question": "?", "v": NEWER, "params": {"n": "many"}}, Newness.CERTAIN),
        ({"prompt": "?", "images": []}, Newness.POSSIBLE),
        ({"prompt": "?", "params": {"n": 2, "min_p": 0.1}}, Newness.POSSIBLE),
        ({"messages": [{"role": "user", "content": "?", "name": "Ada"}]}, Newness.POSSIBLE),
        ({"prompt": "?", "params": {"n": "many", "min_p": 0.1}}, Newness.NONE),
        ({"prompt": "?", "params": {"n": 0}}, Newness.NONE),
        ({"prompt": "?", "v": 0}, Newness.NONE),
        ({"prompt": "?", "v": True}, Newness.NONE),
        ({"prompt": "?"}, Newness.NONE),
    ],
)
def test_a_payload_is_newer_by_its_version_or_by_unknown_names_alone(payload: dict[str, Any], newness: Newness) -> None:
    """A value that is wrong in itself is wrong for every release."""
    assert claim(json.dumps(payload)).newness is newness


@pytest.mark.parametrize("payload", [{"prompt": "?", "v": NEWER}, {"prompt": "?", "imagse": []}])
def test_who_submits_by_the_sdk_is_refused_at_once(payload: dict[str, Any]) -> None:
    """Waiting is for payloads in the queue: a client of this release cannot mean what it does not know."""
    with pytest.raises(InvalidRequestError, match=r"^(v: 2 is not allowed; allowed: 1|imagse: unknown)"):
        parse_payload(payload)


async def test_a_job_of_a_newer_format_is_put_back_without_an_attempt(
    redis: Redis, keys: Keys, older: NewerJobs, lease: Lease, reader: JobReader
) -> None:
    """It waits, says why, and has lost nothing."""
    assert await older.put_back(lease, "v: 2 is not allowed", Newness.CERTAIN) is JobState.QUEUED
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.state, record.document.attempt) == (JobState.QUEUED, 0)
    assert record.fields["last_error"] == "v: 2 is not allowed"
    raw: Any = redis
    assert await raw.zrange(keys.delayed, 0, -1) == [JOB.id.encode()]
    assert not await raw.hgetall(keys.tenants), "its tenant's place is free"


async def test_however_often_it_is_put_back_it_is_not_dead(
    redis: Redis, keys: Keys, older: NewerJobs, lease: Lease, writer: JobWriter, stream: JobStream
) -> None:
    """Pauses grow to ten seconds, so that a job which nobody can read costs a few calls a minute."""
    raw: Any = redis
    pauses = []
    for _ in range(8):  # the limit on attempts is five
        before = int((await raw.time())[0])
        assert await older.put_back(lease, "newer", Newness.CERTAIN) is JobState.QUEUED
        pauses.append(await raw.zscore(keys.delayed, JOB.id) / 1000 - before)
        lease = await take_again(redis, keys, writer, stream)
    assert pauses[0] == pytest.approx(FIRST_PAUSE_SECONDS, abs=1.0)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS, abs=1.0)
    assert lease.attempt == 1


async def test_it_is_given_up_after_the_time_that_it_may_wait(
    redis: Redis, keys: Keys, older: NewerJobs, lease: Lease, writer: JobWriter, stream: JobStream
) -> None:
    """The time counts from the first time that it was put back, not from its submission."""
    raw: Any = redis
    assert await older.put_back(lease, "newer", Newness.CERTAIN) is JobState.QUEUED
    lease = await take_again(redis, keys, writer, stream)
    await raw.hincrby(keys.record(JOB.id), "put_back_at", -int(PATIENCE_SECONDS * 1000))
    assert await older.put_back(lease, "newer", Newness.CERTAIN) is None


async def test_an_unknown_name_waits_only_if_a_newer_coordinator_was_at_work(
    redis: Redis, keys: Keys, older: NewerJobs, newer: NewerJobs, lease: Lease
) -> None:
    """Otherwise it is a mistake, whose submitter is told at once."""
    assert await older.put_back(lease, "params.min_p: unknown", Newness.POSSIBLE) is None
    assert not await newer.announce()
    assert await older.announce(), "a newer one was seen"
    assert await older.put_back(lease, "params.min_p: unknown", Newness.POSSIBLE) is JobState.QUEUED


async def test_a_newer_coordinator_that_has_gone_is_forgotten(
    redis: Redis, keys: Keys, older: NewerJobs, newer: NewerJobs
) -> None:
    """After a rollback the older release is the newest again."""
    raw: Any = redis
    await newer.announce()
    await raw.hincrby(keys.config, "newest_format_at", -int(PATIENCE_SECONDS * 1000) - 1)
    assert not await older.announce()
    assert await raw.hget(keys.config, "newest_format") == str(PAYLOAD_FORMAT).encode()


async def test_a_newer_coordinator_judges_unknown_names_by_itself(newer: NewerJobs, lease: Lease) -> None:
    """It does not wait for itself."""
    await newer.announce()
    assert await newer.put_back(lease, "params.min_q: unknown", Newness.POSSIBLE) is None


async def test_a_step_with_more_fields_is_read_and_one_with_an_unknown_outcome_names_the_fix(
    redis: Redis, keys: Keys, lease: Lease, reader: JobReader
) -> None:
    """Fields that a newer release added are ignored; a value without a meaning here is an error that says so."""
    raw: Any = redis
    added = json.loads(step(0).to_json()) | {"added": {"later": 1}, "rejected": None}
    await raw.xadd(keys.steps(JOB.id), {"step": json.dumps(added), "added": "1"})
    assert await reader.steps(JOB.id) == [step(0)]
    await raw.xadd(keys.steps(JOB.id), {"step": json.dumps(added | {"outcome": "reused"})})
    with pytest.raises(
        NewerReleaseError, match=r"^kept step: outcome cannot be read by release .*: upgrade what reads"
    ):
        await reader.steps(JOB.id)


async def test_a_record_with_more_fields_is_read(redis: Redis, keys: Keys, lease: Lease, reader: JobReader) -> None:
    """A client of this release shows a result of the next one."""
    raw: Any = redis
    await raw.hset(keys.record(JOB.id), mapping={"state": "SUCCEEDED", "text": "5", "carbon_grams": "3"})
    record = await reader.record(JOB.id)
    assert record is not None
    assert (record.document.text, record.document.state) == ("5", JobState.SUCCEEDED)
