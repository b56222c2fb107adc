"""The restore drill: jobs are submitted and run, Redis is lost with its folder, and returns from a copy.

Coordinators stay up all the time. Jobs that ended behind the copy run again; jobs that were submitted behind it are
unknown, which their submitter is told, and may be submitted again under their ids.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gsi.jobs.connection import RedisError
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from tests.chaos.backup import COPIES, Server
from tests.conftest import wait_until
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROBLEMS = [problem["prompt"] for problem in held_out_problems(9)]
LEASE_SECONDS = "1"


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.stop()


async def submit(system: System, number: int) -> str:
    """Submit a job whose answer is always the same."""
    payload = {"id": f"job-{number}", "prompt": PROBLEMS[number], "params": {"n": 4, "seed": number}}
    return await system.client.submit(payload)


async def ends_of(system: System) -> Counter[str]:
    """Return how often each job's end was announced."""
    return Counter(fields[b"id"].decode() for _, fields in await system.redis.xrange(system.keys.results))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", COPIES)
async def test_every_job_ends_once_or_is_reported_after_a_restore(
    model_services: ModelServices, server: Server, tmp_path: Path, kind: str
) -> None:
    """Three jobs end before the copy, three wait or run in it, three are submitted behind it."""
    copy, restore = COPIES[kind]
    services = replace(model_services, stack=replace(model_services.stack, redis_url=server.url))
    settings = {"GSI_COORDINATOR_LEASE_SECONDS": LEASE_SECONDS, "GSI_COORDINATOR_MAX_JOBS": "1"}
    queue = f"restored-{kind.partition('-')[0]}"
    async with services.coordinators(queue, num_coordinators=2, settings=settings) as system:
        before = [await system.finished(await submit(system, number)) for number in range(3)]
        within = [await submit(system, number) for number in range(3, 6)]
        await asyncio.to_thread(copy, server, tmp_path)
        behind = [await submit(system, number) for number in range(6, 9)]
        answers = {job_id: (await system.finished(job_id)).text for job_id in within}

        await asyncio.to_thread(server.lose)
        await asyncio.to_thread(restore, server, tmp_path)

        async def is_back() -> bool:
            try:
                return bool(await system.redis.ping())
            except RedisError:
                return False

        await wait_until(is_back, "the client is connected again")
        records = [await system.client.result(record.id) for record in before]
        assert [record.text for record in records] == [record.text for record in before], "results are kept"
        assert {job_id: (await system.finished(job_id)).text for job_id in within} == answers, "the same answers again"
        unknown = [job_id for job_id in behind if not await system.redis.exists(system.keys.record(job_id))]
        assert unknown == behind, "their submitter can tell"
        for number in range(9):
            await submit(system, number)  # whoever is in doubt submits everything again: known ids run no second time
        ended = [await system.finished(f"job-{number}") for number in range(9)]
        assert {record.state for record in ended} == {JobState.SUCCEEDED}
        assert await ends_of(system) == {f"job-{number}": 1 for number in range(9)}
        assert [finding async for finding in system.client.admin.check()] == []


async def test_a_snapshot_beside_an_append_only_file_is_not_read(server: Server, tmp_path: Path) -> None:
    """The trap of a restore: a server with appendonly starts empty, although the snapshot lies in its folder."""
    copy, _ = COPIES["snapshot"]
    with server.client() as client:
        client.set("kept", "1")
    copy(server, tmp_path)
    server.lose()
    server.data.mkdir()
    (tmp_path / "dump.rdb").rename(server.data / "dump.rdb")
    server.start()
    with server.client() as client:
        assert client.get("kept") is None
