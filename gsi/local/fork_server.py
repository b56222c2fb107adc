"""A process that imports modules once and then forks: ``python -m gsi.local.fork_server CONTROL MODULE…``

Three model services import torch and transformers, three seconds of a processor for each. A fork has them already, and
shares their memory. ``gsi/local/forks.py`` asks for forks over the socket with the file descriptor CONTROL.
Nothing here starts a thread: a fork has only the thread that forked, and a lock of another thread stays locked.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import setproctitle

from gsi.runtime.child import end_with_parent

_NUM_DESCRIPTORS = 3  # standard error, the request, and where the answer goes


def serve(control: socket.socket) -> str | None:
    """Fork for each request. Return the module to run in a fork, and None in this process when nobody can ask again.

    An answer is two lines: the fork's process id and, when it has ended, its exit code, negative for a signal.
    """
    answers: dict[int, int] = {}  # a descriptor by process id
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(answers)
        if control.fileno() in ready:
            _, descriptors, _, _ = socket.recv_fds(control, 1, _NUM_DESCRIPTORS)
            if not descriptors:
                return None
            error, request, answer = descriptors
            server = os.getpid()
            if (pid := os.fork()) == 0:
                with os.fdopen(request) as file:
                    asked = json.load(file)
                control.close()
                for unused in (woken, wake, answer, *answers.values()):
                    os.close(unused)
                _become(asked["module"], asked["environment"], error, server)
                return str(asked["module"])
            os.close(error)
            os.close(request)
            answers[pid] = answer
            _write(answer, f"{pid}\n")


def _report_ends(answers: dict[int, int]) -> None:
    while answers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        answer = answers.pop(pid)
        _write(answer, f"{os.waitstatus_to_exitcode(status)}\n")
        os.close(answer)


def _write(answer: int, line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the asker has gone
        os.write(answer, line.encode())


def _become(module: str, environment: Mapping[str, Any], error: int, server: int) -> None:
    """Make this fork look like ``python -m MODULE`` in a session of its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    end_with_parent(signal.SIGTERM)
    if os.getppid() != server:  # the server ended before the request
        sys.exit(1)
    os.dup2(error, sys.stderr.fileno())
    os.close(error)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = [module]
    setproctitle.setproctitle(f"{sys.executable} -m {module}")


def _import(modules: list[str]) -> None:
    gc.disable()
    for name in modules:
        with contextlib.suppress(ImportError):  # whoever needs what is not installed says so
            importlib.import_module(name)
    gc.enable()
    gc.freeze()  # a collection would write into the shared memory of all forks


def main() -> str | None:
    setproctitle.getproctitle()  # it finds its place in memory by the environment, which a fork replaces
    _import(sys.argv[2:])
    return serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    if chosen := main():  # a fork: outside of every function, so that it ends as any program does
        runpy.run_module(chosen, run_name="__main__", alter_sys=True)
