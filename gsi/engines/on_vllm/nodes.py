"""The nodes of one engine: which node this process is, and how a node learns that another node has gone.

Between two requests the nodes of an engine on vLLM do not notice each other. When node 0 ends, the other nodes wait
forever; when another node ends, node 0 notices at its next request, which fails. A node that was started again cannot
join a running engine. So each of the other nodes holds a connection to node 0 while it lives. A process that loses the
connection ends, and all nodes are started again together.
"""

import argparse
import asyncio
import shlex
import socket

import structlog

log = structlog.get_logger()

JOIN_SECONDS = 1.0  # between two attempts to reach node 0, which may start later
HELLO_SECONDS = 10.0  # for a node to send its rank
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))  # a lost machine: 30 s


def read_node_rank(engine_args: str) -> int:
    """Return the rank of this node, by vLLM's arguments; 0 is the node that serves, and may be the only node.

    Reads the arguments without vLLM, whose import takes seconds: the rank decides which ports the process opens first.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--node-rank", "--node_rank", "-r", nargs="?", const="0", default="0")
    given = parser.parse_known_args(shlex.split(engine_args))[0].node_rank
    return int(given) if given.isdecimal() else 0  # vLLM's own parser will refuse it


class OtherNodes:
    """The other nodes, as node 0 sees them. An engine on one node has none, and opens no port."""

    def __init__(self, num_nodes: int) -> None:
        self._ranks = set(range(1, num_nodes))
        self._connected: dict[int, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def missing(self) -> list[int]:
        """The ranks of the nodes that are not connected."""
        return sorted(self._ranks - self._connected.keys())

    async def listen(self, port: int) -> None:
        """Wait for the other nodes on all interfaces. Raises OSError if the port is taken."""
        if self._ranks:
            self._server = await asyncio.start_server(self._watch_node, port=port)

    def close(self) -> None:
        """Close the connections, which ends the other nodes."""
        if self._server is not None:
            self._server.close()
        for connection in self._connected.values():
            connection.close()

    async def _watch_node(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection and note the node as connected until the connection ends, for whatever reason."""
        try:
            _keep_alive(writer)
            hello = await asyncio.wait_for(reader.readline(), HELLO_SECONDS)
            rank = int(hello)
            if rank not in self._ranks:
                raise ValueError(f"no such node: {rank}")
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("a stranger called the port of the other nodes", reason=str(error))
            writer.close()
            return
        log.info("a node has come", node_rank=rank)
        self._connected[rank] = writer
        try:
            await _wait_for_end(reader)
        finally:
            writer.close()
            if self._connected.get(rank) is writer:  # otherwise the node was started again, and has connected again
                del self._connected[rank]


class NodeZero:
    """Node 0, as another node sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._end = asyncio.create_task(_wait_for_end(reader))

    @classmethod
    async def join(cls, host: str, port: int, rank: int) -> "NodeZero":
        """Connect as node ``rank``. Waits until node 0 answers."""
        is_logged = False
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, port)
                break
            except OSError as error:
                if not is_logged:
                    log.warning("node 0 does not answer; waiting for it", address=f"{host}:{port}", reason=str(error))
                is_logged = True
                await asyncio.sleep(JOIN_SECONDS)
        _keep_alive(writer)
        writer.write(b"%d\n" % rank)
        return cls(reader, writer)

    @property
    def is_gone(self) -> bool:
        """Whether the connection has ended. Raises the error of a watch that has failed."""
        if self._end.done():
            self._end.result()
        return self._end.done()

    def close(self) -> None:
        self._end.cancel()
        self._writer.close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel notice a machine that has gone without closing its connections."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def _wait_for_end(reader: asyncio.StreamReader) -> None:
    """Return when the other side has gone. It sends nothing until then."""
    try:
        await reader.read()
    except OSError:  # reset, or no answer to keep-alives
        return
