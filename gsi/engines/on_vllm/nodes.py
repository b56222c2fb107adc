"""The nodes of one engine: which this process is, and how each learns that another has gone.

vLLM's workers on several nodes know nothing of each other between two requests: when node 0 ends, the others wait
without limit, and when another one ends, node 0 goes on and fails at the next request. A node that comes back cannot
join. So each other node keeps a connection to node 0 for as long as it lives, and who loses it ends, to be started
again.
"""

import argparse
import asyncio
import shlex
import socket

import structlog

log = structlog.get_logger()

JOIN_SECONDS = 1.0  # between tries to reach node 0, which may start later
HELLO_SECONDS = 10.0  # for a node to say who it is
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))  # gone without a word: 30 s


def node_rank(engine_args: str) -> int:
    """Return which node of the engine this process is to be; 0 for the one that serves, or the only one.

    Looks at vLLM's arguments without vLLM, which takes seconds to import: a process that follows opens other ports.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--node-rank", "--node_rank", "-r", nargs="?", const="0", default="0")
    given = parser.parse_known_args(shlex.split(engine_args))[0].node_rank
    return int(given) if given.isdecimal() else 0  # vLLM's own parser says what is wrong


class OtherNodes:
    """Node 0's view of the others. With one node there are none, and none is missing."""

    def __init__(self, num_nodes: int) -> None:
        self._all = set(range(1, num_nodes))
        self._there: dict[int, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def missing(self) -> list[int]:
        """The ranks of the nodes that are not connected."""
        return sorted(self._all - self._there.keys())

    async def listen(self, port: int) -> None:
        """Hear from the other nodes, on all interfaces. Raises OSError if the port is taken."""
        if self._all:
            self._server = await asyncio.start_server(self._hear, port=port)

    def close(self) -> None:
        """Let the other nodes go."""
        if self._server is not None:
            self._server.close()
        for connection in self._there.values():
            connection.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _keep_alive(writer)
            hello = await asyncio.wait_for(reader.readline(), HELLO_SECONDS)
            rank = int(hello)
            if rank not in self._all:
                raise ValueError(f"no such node: {rank}")
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("a stranger called the port of the other nodes", reason=str(error))
            writer.close()
            return
        log.info("a node has come", node_rank=rank)
        self._there[rank] = writer
        await _end_of(reader)
        writer.close()
        if self._there.get(rank) is writer:  # else the node was started again, and is there
            del self._there[rank]


class NodeZero:
    """Another node's view of node 0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._end = asyncio.create_task(_end_of(reader))

    @classmethod
    async def join(cls, host: str, port: int, rank: int) -> "NodeZero":
        """Connect as node ``rank``; waits for node 0 as long as it takes."""
        is_told = False
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, port)
                break
            except OSError as error:
                if not is_told:
                    log.warning("node 0 does not answer; waiting for it", address=f"{host}:{port}", reason=str(error))
                is_told = True
                await asyncio.sleep(JOIN_SECONDS)
        _keep_alive(writer)
        writer.write(b"%d\n" % rank)
        return cls(reader, writer)

    @property
    def is_gone(self) -> bool:
        return self._end.done()

    def close(self) -> None:
        self._end.cancel()
        self._writer.close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice a machine that vanished without closing its connections."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the other side has gone; it says nothing meanwhile."""
    try:
        await reader.read()
    except OSError:  # reset, or no answer to keep-alives
        return
