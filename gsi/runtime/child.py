"""Run a command that does not outlive its parent: ``python -m gsi.runtime.child COMMAND ARGUMENT…``

A parent that is killed cannot stop its children; without this they would run on as orphans. A process of its own sets
the request and becomes the command, because code between fork and exec is unsafe where the parent has threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; the request survives exec


def child_command(command: Sequence[str]) -> list[str]:
    """Return the command line that runs ``command`` as a child that ends with this process."""
    return [sys.executable, "-m", "gsi.runtime.child", *command]


def end_with_parent(signum: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when the one that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)


def main() -> None:
    parent = os.getppid()
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it died before the request was made
        sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
