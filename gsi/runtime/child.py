"""Run a command that does not outlive its parent: ``python -m gsi.runtime.child COMMAND ARGUMENT…``

A killed parent cannot stop its children, which would run on as orphans. So this process asks the kernel for a signal at
its parent's end, and then becomes the command. The parent cannot ask between fork and exec: code there is unsafe in a
process with threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; the kernel keeps the request across exec


def child_command(command: Sequence[str]) -> list[str]:
    """Return the command line of a child that runs ``command`` and ends with this process."""
    return [sys.executable, "-m", "gsi.runtime.child", *command]


def end_with_parent(signum: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)


def main() -> None:
    parent = os.getppid()
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the request
        sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
