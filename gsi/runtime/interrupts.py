"""Ctrl-C while modules are imported. It imports little itself, since an interrupt until then has a traceback."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process at once, by the signal, while modules are imported: a traceback would say nothing."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # another thread than the main one, as in tests: it is never interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
