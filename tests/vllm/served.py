"""A stock ``vllm serve`` in a process of its own, as somebody runs it who knows nothing of this package."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from gsi.local.embedded_redis import free_port
from tests.conftest import MODELS

START_SECONDS = 240.0  # three servers at once, on two cores that others use as well
STOP_SECONDS = 20.0
# --block-size: the default on a CPU is longer than the prompts here, so that nothing would come from the cache.
ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--block-size", "32", "--max-num-seqs", "64")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",  # this package's classes are not those of a stock server
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


class Served:
    """A server that is starting: three start at once, and each takes most of its time to import."""

    def __init__(self, role: str, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._address = ("127.0.0.1", free_port())
        self.url = "http://{}:{}".format(*self._address)
        self._log = folder / f"{role}.log"
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("GSI_", "VLLM_"))}
        command = [sys.executable, "-m", "tests.vllm.serve_command", "serve", str(MODELS / role)]
        command += ["--host", self._address[0], "--port", str(self._address[1]), *ARGUMENTS, *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=mine | ENVIRONMENT | dict(environment),
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )

    def wait(self) -> str:
        """Return the address once the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return self.url
            except OSError:
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def served(
    role: str, folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Served]:
    """Serve one of the shipped models; stop the server on leaving."""
    server = Served(role, folder, arguments, environment)
    try:
        yield server
    finally:
        server.stop()
