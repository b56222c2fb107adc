"""Forks of a process that has imported what they need: they start in a tenth of the time."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from gsi.errors import InternalError
from gsi.local import child_process
from gsi.local.child_process import ChildProcess, Process, Report
from gsi.runtime.child import child_command

# Read when the libraries are imported. OpenBLAS would start threads, which a fork lacks; torch has threads of its own.
# And to ask CUDA whether there is a GPU would make CUDA unusable in the forks: NVML can be asked instead.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
SERVER_MODULE = "gsi.local.fork_server"
_NUM_TRIES = 3


class Fork:
    """A fork, as ``asyncio.subprocess.Process`` shows a process."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader, answer: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._answer = answer

    async def wait(self) -> int:
        """Return the exit code, minus the signal that ended it, when the process has ended."""
        if self.returncode is None:
            line = await self._answer.readline()
            self.returncode = int(line or -signal.SIGTERM)  # no line: the server has ended, and its forks with it
        return self.returncode

    async def communicate(self) -> None:
        """Read standard error to its end, and wait."""
        await self.stderr.read()
        await self.wait()

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, signum: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, signum)


class ForkServer:
    """A process that has imported ``modules``, and runs any module in a fork. It starts with the first fork."""

    def __init__(self, modules: Sequence[str], log: Path) -> None:
        self._modules = modules
        self._log = log
        self._server: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.end()

    async def run(self, module: str, environment: Mapping[str, str]) -> Fork:
        """Run ``python -m MODULE`` in a fork.

        Starts the server anew if it has ended. Raises InternalError if that does not help.
        """
        for _ in range(_NUM_TRIES):
            control = await self._connection()
            try:
                return await self._fork(control, module, environment)
            except ConnectionError:
                if control is self._control:  # no other call has replaced the server meanwhile
                    await self.end()
        raise InternalError(f"the fork server ends at once (its log: {self._log})")

    async def _connection(self) -> socket.socket:
        """Return the socket of the server. Starts one if there is none."""
        async with self._starting:
            if self._control is None:
                self._control, theirs = socket.socketpair()
                command = [sys.executable, "-m", SERVER_MODULE, str(theirs.fileno()), *self._modules]
                with theirs, self._log.open("ab") as log:
                    self._server = await asyncio.create_subprocess_exec(
                        *child_command(command),
                        env=os.environ | _ENVIRONMENT,
                        stdin=asyncio.subprocess.DEVNULL,
                        stderr=log,
                        pass_fds=[theirs.fileno()],
                        start_new_session=True,  # Ctrl-C goes to the parent alone
                    )
            return self._control

    async def end(self) -> None:
        """End the server, and every fork that still runs."""
        control, server, self._control, self._server = self._control, self._server, None, None
        if control is not None:
            control.close()
        if server is not None:
            with suppress(ProcessLookupError):
                server.terminate()
            await server.wait()

    async def _fork(self, control: socket.socket, module: str, environment: Mapping[str, str]) -> Fork:
        """Ask for a fork. Raises ConnectionError if the server has ended."""
        error, error_end = _pipe()
        answer, answer_end = _pipe()
        with tempfile.TemporaryFile("w+") as request, error_end, answer_end:
            json.dump({"module": module, "environment": {**environment}}, request)
            request.seek(0)
            stderr, lines = await _reader(error), await _reader(answer)
            socket.send_fds(control, [b"f"], [error_end.fileno(), request.fileno(), answer_end.fileno()])
        pid = await lines.readline()
        if not pid:
            raise ConnectionError("the fork server has ended")
        return Fork(int(pid), stderr, lines)


class ForkedChild(ChildProcess):
    """A child process that runs a module in a fork. It starts again in another one."""

    def __init__(
        self, name: str, module: str, environment: Mapping[str, str], log: Path, report: Report, forks: ForkServer
    ) -> None:
        super().__init__(name, [sys.executable, "-m", module], environment, log, report)
        self._module = module
        self._forks = forks

    async def _start_process(self) -> Process:
        return await self._forks.run(self._module, self._environment)


def _pipe() -> tuple[FileIO, FileIO]:
    """Return the end to read from and the end to write to."""
    read_end, write_end = os.pipe()
    return FileIO(read_end, "r"), FileIO(write_end, "w")


async def _reader(file: FileIO) -> asyncio.StreamReader:
    """Read a pipe, and close it at its end."""
    reader = asyncio.StreamReader(limit=child_process.LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader
