"""The connections by which the nodes of one engine notice each other's end, over real sockets."""

import asyncio

import pytest

from gsi.engines.on_vllm.nodes import NodeZero, OtherNodes, read_node_rank
from gsi.local.embedded_redis import free_port
from tests.conftest import wait_until


async def until_missing(others: OtherNodes, ranks: list[int]) -> None:
    async def are() -> bool:
        return others.missing == ranks

    await wait_until(are, f"{ranks} are missing")


@pytest.mark.parametrize(
    ("engine_args", "rank"),
    [
        ("", 0),
        ("--tensor-parallel-size 2 --nnodes 2 --node-rank 1 --master-addr gsi-target-0", 1),
        ("--node_rank=3 --nnodes 4", 3),
        ("-n 2 -r 1 -tp 2", 1),
        ("--master-addr --node-rank", 0),
        ("""--speculative-config '{"model": "--node-rank 1"}'""", 0),
        ("--node-rank many", 0),
    ],
)
def test_the_rank_is_read_off_the_arguments(engine_args: str, rank: int) -> None:
    """vLLM allows several spellings. Arguments that vLLM's own parser will refuse give 0."""
    assert read_node_rank(engine_args) == rank


async def test_each_side_notices_that_the_other_has_gone() -> None:
    """Node 0 knows which node is missing, and another node knows when node 0 has gone."""
    port = free_port()
    others = OtherNodes(3)
    await others.listen(port)
    assert others.missing == [1, 2]
    first, second = [await NodeZero.join("127.0.0.1", port, rank) for rank in (1, 2)]
    await until_missing(others, [])
    second.close()
    await until_missing(others, [2])
    assert not first.is_gone
    others.close()

    async def is_gone() -> bool:
        return first.is_gone

    await wait_until(is_gone, "node 1 knows that node 0 has gone")
    first.close()


async def test_a_node_waits_for_node_zero() -> None:
    """Nodes may start in any order."""
    port = free_port()
    joining = asyncio.create_task(NodeZero.join("127.0.0.1", port, 1))
    await asyncio.sleep(0.1)
    assert not joining.done()
    others = OtherNodes(2)
    await others.listen(port)
    node_zero = await joining
    await until_missing(others, [])
    again = await NodeZero.join(
        "127.0.0.1", port, 1
    )  # it was started anew before its old connection was known to be lost
    await asyncio.sleep(0.1)
    node_zero.close()
    await asyncio.sleep(0.1)
    assert others.missing == []
    again.close()
    await until_missing(others, [1])
    others.close()


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\n", b"7\n", b"0\n", b""])
async def test_a_stranger_is_no_node(hello: bytes) -> None:
    """A caller with another greeting is disconnected, and is not missing afterwards."""
    port = free_port()
    others = OtherNodes(2)
    await others.listen(port)
    node_zero = await NodeZero.join("127.0.0.1", port, 1)
    await until_missing(others, [])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hello)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert others.missing == []
    node_zero.close()
    await until_missing(others, [1])
    others.close()


async def test_one_node_misses_nobody_and_listens_nowhere() -> None:
    """An engine on one machine opens no port."""
    port = free_port()
    others = OtherNodes(1)
    await others.listen(port)
    assert others.missing == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    others.close()


async def test_a_watch_that_fails_does_not_count_as_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each side would believe forever that the other side is there."""
    port, may_fail = free_port(), asyncio.Event()

    async def fail(reader: asyncio.StreamReader) -> None:
        await may_fail.wait()
        raise ValueError("the watch broke")

    monkeypatch.setattr("gsi.engines.on_vllm.nodes._wait_for_end", fail)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio logs it, and goes on
    others = OtherNodes(2)
    await others.listen(port)
    node_zero = await NodeZero.join("127.0.0.1", port, 1)
    await until_missing(others, [])
    assert not node_zero.is_gone
    may_fail.set()
    await until_missing(others, [1])
    with pytest.raises(ValueError, match="the watch broke"):
        _ = node_zero.is_gone
    node_zero.close()
    others.close()
