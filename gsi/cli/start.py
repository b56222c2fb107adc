"""The entry point of the command ``gsi``. It imports little, so that Ctrl-C is silent while the rest is imported."""

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


def main() -> None:
    """Run the command line."""
    with silent_interrupts():
        from gsi.cli.main import main as run  # noqa: PLC0415 (interrupts are silent from here on)
    run()
