"""What the web page looks at: jobs that are filtered, how far they are, and their queue."""

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from gsi.jobs.job import Job, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.listing import JobFilter, JobList
from gsi.jobs.overview import OverviewReader
from gsi.jobs.progress import ProgressReader
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import step


async def submit(submitter: JobSubmitter, job_id: str, **fields: Any) -> None:
    await submitter.submit(Job(job_id, parse_payload({"id": job_id, "prompt": f"question {job_id}"} | fields)))


@pytest.fixture
async def jobs(redis: Redis, keys: Keys, submitter: JobSubmitter) -> JobList:
    await submit(submitter, "a", tenant="acme", params={"method": "rsd:binary=0.7"})
    await submit(submitter, "b", prompt=None, messages=[{"role": "user", "content": "What of Otters?"}])
    await redis.xadd(keys.jobs, {"job": '{"prompt": 7, "id": "c", "params": []}'})
    return JobList(redis, keys)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (JobFilter(), ["c", "b", "a"]),
        (JobFilter(JobState.QUEUED, method="rsd"), ["a"]),
        (JobFilter(tenant="acme"), ["a"]),
        (JobFilter(tenant="ac"), []),
        (JobFilter(text="OTTER"), ["b"]),
        (JobFilter(text="question"), ["a"]),
        (JobFilter(JobState.DEAD, text="a"), []),
    ],
)
async def test_a_filter_has_several_parts(jobs: JobList, wanted: JobFilter, found: list[str]) -> None:
    """The text is looked for in id and question, in any case. A payload that is wrong has no method and no question."""
    assert [job.id for job in await jobs.newest(wanted, 10)] == found


async def test_a_search_finds_what_is_not_among_the_newest(jobs: JobList, submitter: JobSubmitter) -> None:
    """The limit is on what is found, not on what is looked at."""
    for number in range(20):
        await submit(submitter, f"other-{number}")
    assert [job.id for job in await jobs.newest(JobFilter(text="otters"), 1)] == ["b"]


async def test_progress_reads_each_step_once(redis: Redis, keys: Keys, submitter: JobSubmitter) -> None:
    """Also if two look at the same time; what nobody looks at any more is forgotten."""
    stream, writer = JobStream(redis, keys, "worker"), JobWriter(redis, keys)
    await stream.create_group()
    await submit(submitter, "a")
    (delivery,) = await stream.take_new(1, 1000)
    lease = await writer.take("a", delivery)
    assert lease is not None
    reader, listed = ProgressReader(redis, keys, max_known=1), JobList(redis, keys)
    for number in range(3):
        await writer.append_step(lease, step(number, f"text {number}"))
        found = await listed.newest(JobFilter(), 10)
        (progress,) = (await reader.read(found)).values()
        assert (progress.num_steps, progress.acceptance, progress.last_text) == (number + 1, 1.0, f"text {number}")
    again = await reader.read([*found, *found])
    assert again["a"].num_steps == 3
    assert len(reader._known) == 1
    await submit(submitter, "b")
    assert await reader.read(await listed.newest(JobFilter(text="question b"), 10)) == {}


async def test_an_overview_of_a_queue_that_nobody_knows_is_empty_and_changes_nothing(redis: Any, keys: Keys) -> None:
    """It creates neither streams nor the group: a look is no work."""
    found = await OverviewReader(redis, keys).look()
    assert [(lane.name, lane.entries, lane.lag) for lane in found.lanes] == [
        ("high", 0, 0),
        ("normal", 0, 0),
        ("low", 0, 0),
    ]
    assert (found.coordinators, found.letters, found.is_paused) == ([], [], False)
    assert [key async for key in redis.scan_iter(match=f"{keys.prefix}*")] == []


async def test_an_overview_tells_who_holds_which_job(redis: Redis, keys: Keys, submitter: JobSubmitter) -> None:
    """Jobs of several coordinators and lanes, with their tenants; what waits is the lag of its lane."""
    first, second = JobStream(redis, keys, "one"), JobStream(redis, keys, "two")
    writer = JobWriter(redis, keys)
    await first.create_group()
    for stream, name, tenant, priority in ((first, "a", "acme", "high"), (second, "b", "other", "low")):
        await submit(submitter, name, tenant=tenant, priority=priority)
        (delivery,) = await stream.take_new(1, 1000)
        await writer.take(json.loads(delivery.payload)["id"], delivery)
    await submit(submitter, "c")
    found = await OverviewReader(redis, keys).look()
    assert {each.name: [(job.id, job.tenant) for job in each.jobs] for each in found.coordinators} == {
        "one": [("a", "acme")],
        "two": [("b", "other")],
    }
    assert {lane.name: (lane.entries, lane.lag, lane.oldest_seconds > 0) for lane in found.lanes} == {
        "high": (1, 0, False),
        "normal": (1, 1, True),
        "low": (1, 0, False),
    }


async def test_a_long_payload_goes_when_its_job_ends(redis: Redis, keys: Keys, submitter: JobSubmitter) -> None:
    """A short one stays: the page shows what was asked."""
    stream, writer = JobStream(redis, keys, "worker"), JobWriter(redis, keys)
    await stream.create_group()
    for name, prompt in (("short", "2 + 3"), ("long", "x" * 17_000)):
        await submit(submitter, name, prompt=prompt)
        (delivery,) = await stream.take_new(1, 1000)
        lease = await writer.take(name, delivery)
        assert lease is not None
        await writer.commit(lease, JobResult(JobState.SUCCEEDED))
    questions = {job.id: job.question for job in await JobList(redis, keys).newest(JobFilter(), 10)}
    assert questions == {"short": "2 + 3", "long": ""}
