"""A child process of the local stack: its log goes to a file, its events to a callback; a crash starts it again."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gsi.errors import InternalError, MisconfiguredError
from gsi.runtime.child import child_command

START_SECONDS = 300.0  # three vLLM engines on two cores
STOP_SECONDS = 15.0
RESTART_SECONDS = 1.0  # between a crash and the next start; doubled with each further crash
MAX_RESTART_SECONDS = 30.0
STABLE_SECONDS = 60.0  # a process that ran so long has got over its last crash
LINE_BYTES = 2**20  # a traceback is one line of JSON

Event = Mapping[str, Any]
Report = Callable[[str, Event], None]  # takes the name of a process and an event of its log


class Process(Protocol):
    """A running process, as ``asyncio.subprocess.Process`` is one."""

    @property
    def pid(self) -> int: ...
    @property
    def stderr(self) -> asyncio.StreamReader | None: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    async def communicate(self) -> object: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def read_json_line(line: bytes) -> Event | None:
    """Return the event in a line of a log; None for other lines, such as warnings of libraries."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


class ChildProcess:
    """A process that logs lines on standard error, with the event "ready" once it is ready.

    If the process ends after it was ready, it is started again after a pause that grows. ``read_line`` makes an event
    of a line. ``start_seconds``: how long it may take to be ready.
    """

    start_seconds = START_SECONDS

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        report: Report,
        read_line: Callable[[bytes], Event | None] = read_json_line,
    ) -> None:
        self.name = name
        self._read_line = read_line
        self._command = child_command(command)
        self._environment = {**os.environ, **environment}
        self._log = log
        self._report = report
        self._is_ready = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._process: Process | None = None
        self._supervision: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    async def start(self) -> None:
        """Start the process and return when it is ready. Raises MisconfiguredError if it ends before or is too slow."""
        self._supervision = asyncio.create_task(self._supervise())
        ready = asyncio.create_task(self._is_ready.wait())
        await asyncio.wait({ready, self._supervision}, timeout=self.start_seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._is_ready.is_set():
            raise MisconfiguredError(f"{self.name} did not start: {self._last_line()} (its log: {self._log})")

    async def wait_until_unsupervised(self) -> None:
        """Return when the process was stopped. Raises InternalError if its supervision fails, which kills it."""
        if self._supervision is None:
            raise RuntimeError(f"{self.name} has not been started")
        await asyncio.wait({self._supervision})
        if error := self._supervision.exception():
            raise InternalError(f"{self.name}: it is killed, because its supervision failed: {error!r}") from error

    async def stop(self) -> None:
        """Ask the process to stop, and wait until it has ended; kill it if that takes too long."""
        self._is_stopping.set()
        if self._supervision is None or self._supervision.done():
            return
        self._signal_to_stop()
        _, late = await asyncio.wait({self._supervision}, timeout=STOP_SECONDS)
        if late and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait({self._supervision})

    async def _supervise(self) -> None:
        """Run the process until it is told to stop, or ends before it was ever ready."""
        pause = RESTART_SECONDS
        while not self._is_stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._is_stopping.is_set() or not self._is_ready.is_set():
                return
            if time.monotonic() - started > STABLE_SECONDS:
                pause = RESTART_SECONDS
            text = f"ended with code {code}; starting it again in {pause:g} s"
            self._report(self.name, {"level": "error", "event": text})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), pause)
            pause = min(2 * pause, MAX_RESTART_SECONDS)

    async def _run_once(self) -> int:
        self._process = await self._start_process()
        assert self._process.stderr is not None, "a pipe was asked for"
        try:
            if self._is_stopping.is_set():  # stop() came before there was a process to signal
                self._signal_to_stop()
            with self._log.open("ab") as log:
                async for line in _lines(self._process.stderr):
                    log.write(line)
                    log.flush()
                    self._take_line(line)
            return await self._process.wait()
        finally:
            if self._process.returncode is None:  # nobody reads its log any more: it would block, unsupervised
                self._process.kill()
                await self._process.communicate()

    async def _start_process(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C goes to the parent alone, which stops the processes in order
        )

    def _signal_to_stop(self) -> None:
        with suppress(ProcessLookupError):
            if self._process is not None:
                self._process.terminate()

    def _take_line(self, line: bytes) -> None:
        event = self._read_line(line)
        if event is None:
            return
        if event["event"] == "ready":
            self._is_ready.set()
        self._report(self.name, event)

    def _last_line(self) -> str:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it wrote nothing"


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without those longer than ``LINE_BYTES``, which asyncio drops."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line
