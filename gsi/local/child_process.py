"""A child process of the local stack: its log goes to a file, its events to a callback; a crash starts it again."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gsi.errors import MisconfiguredError
from gsi.runtime.child import child_command

START_SECONDS = 300.0  # three vLLM engines on two cores
STOP_SECONDS = 15.0
RESTART_SECONDS = 1.0  # between a crash and the next start
LINE_BYTES = 2**20  # a traceback is one line of JSON

Report = Callable[[str, Mapping[str, Any]], None]  # takes the name of a process and an event of its log


class ChildProcess:
    """A process that logs JSON lines on standard error, with the event "ready" once it is ready.

    If the process ends after it was ready, it is started again.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, report: Report
    ) -> None:
        self.name = name
        self._command = child_command(command)
        self._environment = {**os.environ, **environment}
        self._log = log
        self._report = report
        self._is_ready = asyncio.Event()
        self._is_stopping = False
        self._process: asyncio.subprocess.Process | None = None
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
        self._supervision.add_done_callback(self._report_failure)
        ready = asyncio.create_task(self._is_ready.wait())
        await asyncio.wait({ready, self._supervision}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._is_ready.is_set():
            raise MisconfiguredError(f"{self.name} did not start: {self._last_line()} (its log: {self._log})")

    async def stop(self) -> None:
        """Ask the process to stop, and wait until it has ended; kill it if that takes too long."""
        self._is_stopping = True
        if self._supervision is None or self._process is None or self._supervision.done():
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        _, late = await asyncio.wait({self._supervision}, timeout=STOP_SECONDS)
        if late:
            self._process.kill()
            await self._supervision

    async def _supervise(self) -> None:
        """Run the process until it is told to stop, or ends before it was ever ready."""
        while True:
            code = await self._run_once()
            if self._is_stopping or not self._is_ready.is_set():
                return
            self._report(self.name, {"level": "error", "event": f"ended with code {code}; starting it again"})
            await asyncio.sleep(RESTART_SECONDS)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C goes to the parent alone, which stops the processes in order
        )
        assert self._process.stderr is not None, "a pipe was asked for"
        try:
            with self._log.open("ab") as log:
                async for line in self._process.stderr:
                    log.write(line)
                    log.flush()
                    self._read_line(line)
            return await self._process.wait()
        finally:
            if self._process.returncode is None:  # nobody reads its log any more: it would block, unsupervised
                self._process.kill()
                await self._process.communicate()

    def _read_line(self, line: bytes) -> None:
        with suppress(ValueError):  # some lines are no events, such as warnings of libraries
            event = json.loads(line)
            if event.get("event") == "ready":
                self._is_ready.set()
            self._report(self.name, event)

    def _report_failure(self, supervision: asyncio.Task[None]) -> None:
        """Report a supervision that has failed: its process has been killed and will not be started again."""
        if not supervision.cancelled() and (error := supervision.exception()):
            self._report(
                self.name, {"level": "error", "event": f"not started again: its supervision failed: {error!r}"}
            )

    def _last_line(self) -> str:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it wrote nothing"
