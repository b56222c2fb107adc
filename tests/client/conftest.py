"""A coordinator of a few lines, for tests of the client: it answers each job with the last word of its prompt."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import step

PARAMS = '{"method": "gsi", "n": 2}'

Coordinator = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def keys(queue: str) -> Keys:
    return Keys(queue)


@pytest.fixture
def coordinator(redis: Redis, keys: Keys) -> Coordinator:
    """Start a coordinator that runs one job at a time, while its context is open; it finishes the job that it has."""

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(answer_jobs(redis, keys, stop))
        try:
            yield
        finally:
            stop.set()
            await task

    return run


async def answer_jobs(redis: Redis, keys: Keys, stop: asyncio.Event) -> None:
    stream, writer = JobStream(redis, keys, "worker-1"), JobWriter(redis, keys)
    await stream.create_group()
    while not stop.is_set():
        for delivery in await stream.take_new(count=1, block_ms=100):
            payload = json.loads(delivery.payload)
            lease = await writer.take(payload["id"], delivery)
            assert lease is not None
            await writer.append_step(lease, step(0, f"about {payload['prompt']}\n\n"))
            word = payload["prompt"].split()[-1]
            failed = JobResult(JobState.FAILED, error="no such word")
            done = JobResult(JobState.SUCCEEDED, stop_reason="eos", text=word, answer=word, params=PARAMS)
            await writer.commit(lease, failed if word == "fail" else done)
