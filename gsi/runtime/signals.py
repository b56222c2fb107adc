"""Signals: the first SIGTERM or SIGINT asks a process to stop; a second of its kind ends it at once."""

import asyncio
import signal


def stop_on_signals() -> asyncio.Event:
    """Return an event of the running loop; the first SIGTERM or SIGINT sets it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def request_stop(signum: int) -> None:
        stop.set()
        loop.remove_signal_handler(signum)  # the next signal of this kind has its default effect

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, request_stop, signum)
    return stop
