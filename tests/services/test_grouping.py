"""Candidates that finish within milliseconds leave a service in one message, and a lone one leaves at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.params import SamplingParams
from gsi.rpc import grouping
from gsi.rpc.grouping import group, read_ahead
from gsi.v1 import candidates_pb2, draft_pb2_grpc
from tests.conftest import wait_until
from tests.services.test_model_services import SAMPLING_PROTO, EndlessEngine, serving_engine, status

FOREVER = 1000.0  # seconds: what waited for the end of a group would not come before the test's own time is over


async def one_by_one(items: Sequence[int], then: Exception | None = None) -> Any:
    """Yield each item by itself; what has come may leave before the next one comes."""
    for item in items:
        yield [item]
        await asyncio.sleep(0)
    if then is not None:
        raise then


@pytest.mark.parametrize("num_items", [1, 2, 16])
async def test_what_comes_together_leaves_together(num_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: the first at once, all others when the last has come, since no more can come."""
    monkeypatch.setattr(grouping, "GROUP_SECONDS", FOREVER)
    groups = [together async for together in group(one_by_one(range(num_items)))]
    assert [item for together in groups for item in together] == list(range(num_items))
    assert len(groups) <= 2


async def test_a_batch_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that finishes several at once has them sent at once."""

    async def at_once() -> Any:
        yield [0, 1, 2]

    assert [together async for together in group(at_once())] == [[0, 1, 2]]


async def test_a_lone_item_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first one, nor one that comes when the last group has long left."""
    may_come = asyncio.Event()

    async def two() -> Any:
        yield [0]
        await may_come.wait()
        yield [1]
        await asyncio.Event().wait()

    async with aclosing(group(two())) as groups:
        monkeypatch.setattr(grouping, "GROUP_SECONDS", 0.0)
        assert await anext(groups) == [0]
        second = asyncio.ensure_future(anext(groups))
        await asyncio.sleep(0.01)
        monkeypatch.setattr(grouping, "GROUP_SECONDS", FOREVER)
        may_come.set()
        assert await second == [1]


async def test_an_error_comes_behind_what_came_before_it() -> None:
    """Nothing that had finished is held back for it."""
    groups = group(one_by_one([0, 1], ValueError("it broke")))
    got: list[int] = []

    async def read() -> None:
        async for together in groups:
            got.extend(together)

    with pytest.raises(ValueError, match="it broke"):
        await read()
    assert got == [0, 1]


async def test_a_busy_reader_gets_what_came_meanwhile_together() -> None:
    """The first has come alone; the others have come while it was worked on."""
    async with read_ahead(one_by_one(range(4))) as arrived:
        got = [await anext(arrived)]
        for _ in range(10):
            await asyncio.sleep(0)
        got += [together async for together in arrived]
    assert got == [[0], [1, 2, 3]]


async def test_reading_begins_before_the_first_is_asked_for() -> None:
    """A service reads a job's prefix first, and by then several candidates are there."""
    async with read_ahead(one_by_one(range(3))) as arrived:
        for _ in range(10):
            await asyncio.sleep(0)
        assert [together async for together in arrived] == [[0, 1, 2]]


async def test_a_reader_that_is_ahead_gives_the_error_last() -> None:
    """A candidate that came before a bad message is scored."""
    async with read_ahead(one_by_one([0, 1], ValueError("it broke"))) as arrived:
        for _ in range(10):
            await asyncio.sleep(0)
        assert await anext(arrived) == [0, 1]
        with pytest.raises(ValueError, match="it broke"):
            await anext(arrived)


async def test_closing_the_groups_stops_the_source() -> None:
    """An engine does not go on for a caller who has gone, whether something waits to leave or not."""
    stopped = asyncio.Event()

    async def endless() -> Any:
        try:
            yield [0]
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with aclosing(group(endless())) as groups:
        assert await anext(groups) == [0]
    assert stopped.is_set()


class OneByOne(EndlessEngine):
    """Offers each candidate by itself."""

    async def propose(
        self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
    ) -> AsyncIterator[Sequence[Candidate]]:
        for index in range(n):
            yield [Candidate(index, (1,), "a step", -1.0, FinishReason.DELIMITER)]
            await asyncio.sleep(0)


async def test_a_proposal_of_sixteen_is_a_few_messages() -> None:
    """As a client of gRPC counts them."""
    request = candidates_pb2.ProposeRequest(prefix_token_ids=[1], n=16, sampling=SAMPLING_PROTO)
    async with serving_engine(OneByOne()) as server, grpc.aio.insecure_channel(server.address) as channel:

        async def serves() -> bool:
            return await status(server.address) == "SERVING"

        await wait_until(serves, "it serves")
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        answers = [answer async for answer in stub.Propose(request)]
    assert [candidate.index for answer in answers for candidate in answer.candidates] == list(range(16))
    assert len(answers) < 8
