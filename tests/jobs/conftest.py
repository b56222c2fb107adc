"""The sides of one queue, on a real server."""

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobReader
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter


@pytest.fixture
def keys(queue: str) -> Keys:
    return Keys(queue)


@pytest.fixture
def submitter(redis: Redis, keys: Keys) -> JobSubmitter:
    return JobSubmitter(redis, keys)


@pytest.fixture
def writer(redis: Redis, keys: Keys) -> JobWriter:
    return JobWriter(redis, keys)


@pytest.fixture
def reader(redis: Redis, keys: Keys) -> JobReader:
    return JobReader(redis, keys)


@pytest.fixture
async def stream(redis: Redis, keys: Keys) -> JobStream:
    stream = JobStream(redis, keys, "worker-1")
    await stream.create_group()
    return stream


@pytest.fixture
async def other_stream(redis: Redis, keys: Keys) -> JobStream:
    return JobStream(redis, keys, "worker-2")
