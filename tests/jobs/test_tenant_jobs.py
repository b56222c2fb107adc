"""Jobs by tenant: who fills a queue, in few values of a label however many tenants there are."""

from collections import Counter

import pytest

from gsi.jobs import tenant_jobs
from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.tenant_jobs import TenantJobs
from gsi.jobs.tenant_label import MAX_TENANTS, OTHER, TenantLabel, keep_largest
from tests.jobs.test_tenants import Queue


async def test_each_job_is_in_one_place(redis: Redis, queue: str) -> None:
    """Of six jobs of a tenant that may have two in flight, two are that, two are parked, and two wait."""
    crowded, tenants = Queue(redis, queue), TenantJobs(redis, Keys(queue))
    await crowded.stream.create_group()
    for number in range(4):
        await crowded.submit(f"a-{number}", "a")
    assert await tenants.count() == {"a": Counter(waiting=4)}
    leases = await crowded.take()
    for number in (4, 5):
        await crowded.submit(f"a-{number}", "a")
    await crowded.submit("b-0", "b")
    assert await tenants.count() == {"a": Counter(in_flight=2, parked=2, waiting=2), "b": Counter(waiting=1)}
    assert len(leases) == 2


async def test_a_queue_that_nobody_has_used_has_none_and_stays_as_it_is(redis: Redis, queue: str) -> None:
    """No key is made by looking."""
    assert await TenantJobs(redis, Keys(queue)).count() == {}
    assert not [key async for key in redis.scan_iter(f"*{{{queue}}}*")]


async def test_no_more_waiting_jobs_are_read_than_the_limit(
    redis: Redis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones of a lane; a job whose payload is no JSON is the default tenant's."""
    monkeypatch.setattr(tenant_jobs, "MAX_WAITING", 4)
    monkeypatch.setattr(tenant_jobs, "PAGE", 2)
    crowded = Queue(redis, queue)
    await redis.xadd(Keys(queue).jobs, {"job": "no JSON"})
    for number in range(9):
        await crowded.submit(f"a-{number}", "a")
    assert await TenantJobs(redis, Keys(queue)).count() == {"a": Counter(waiting=3), "default": Counter(waiting=1)}


async def test_long_payloads_end_the_reading(redis: Redis, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the page in which the limit is passed."""
    monkeypatch.setattr(tenant_jobs, "MAX_BYTES", 10)
    monkeypatch.setattr(tenant_jobs, "PAGE", 2)
    crowded = Queue(redis, queue)
    for number in range(9):
        await crowded.submit(f"a-{number}", "a")
    assert await TenantJobs(redis, Keys(queue)).count() == {"a": Counter(waiting=2)}


def test_a_counter_names_the_first_tenants_that_come() -> None:
    """A tenant keeps its value: a counter must not fall."""
    label = TenantLabel()
    names = [label.name(f"tenant-{number}") for number in range(MAX_TENANTS + 2)]
    assert names[:MAX_TENANTS] == [f"tenant-{number}" for number in range(MAX_TENANTS)]
    assert names[MAX_TENANTS:] == [OTHER, OTHER]
    assert label.name("tenant-0") == "tenant-0"


def test_a_gauge_names_the_tenants_with_the_most_jobs() -> None:
    """Whoever fills the queue is named, and nothing is lost of the sum."""
    counts = {f"tenant-{number}": Counter(waiting=number) for number in range(1, MAX_TENANTS + 3)}
    kept = keep_largest(counts)
    assert len(kept) == MAX_TENANTS + 1
    assert f"tenant-{MAX_TENANTS + 2}" in kept
    assert kept[OTHER] == Counter(waiting=1 + 2)


def test_a_tenant_that_is_called_other_is_not_lost() -> None:
    """It shares the value with those that are added up."""
    counts = {f"tenant-{number}": Counter(parked=2) for number in range(MAX_TENANTS)} | {OTHER: Counter(parked=7)}
    kept = keep_largest(counts)
    assert kept[OTHER] == Counter(parked=7 + 2)
    assert sum(found.total() for found in kept.values()) == 2 * MAX_TENANTS + 7
