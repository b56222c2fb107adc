"""A child process of ours: its log goes to a file, its events to a reporter, and if it dies it is started again."""

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
RESTART_SECONDS = 1.0
LINE_BYTES = 2**20  # a traceback is one line of JSON

Report = Callable[[str, Mapping[str, Any]], None]  # (process, an event of its log)


class ChildProcess:
    """One process. It logs JSON on standard error, and the event "ready" once it is."""

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
        """The process's id. Raises RuntimeError before it was started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    async def start(self) -> None:
        """Start the process and return when it is ready. Raises MisconfiguredError if it is not in time, or ends."""
        self._supervision = asyncio.create_task(self._supervise())
        ready = asyncio.create_task(self._is_ready.wait())
        await asyncio.wait({ready, self._supervision}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._is_ready.is_set():
            raise MisconfiguredError(f"{self.name} did not start: {self._last_line()} (its log: {self._log})")

    async def stop(self) -> None:
        """Ask the process to stop and wait for it; kill it if that takes too long."""
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
        """Run the process, again and again once it has been ready; one that never was is not tried again."""
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
            start_new_session=True,  # Ctrl-C is its parent's, which stops the parts in their order
        )
        assert self._process.stderr is not None, "a pipe was asked for"
        with self._log.open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                log.flush()
                self._read(line)
        return await self._process.wait()

    def _read(self, line: bytes) -> None:
        with suppress(ValueError):  # not every line is an event: warnings of libraries
            event = json.loads(line)
            if event.get("event") == "ready":
                self._is_ready.set()
            self._report(self.name, event)

    def _last_line(self) -> str:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it wrote nothing"
