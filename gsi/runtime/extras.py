"""Parts of the installation that a process needs, and the base installation does not have."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = frozenset({"gsi", "services"})


@contextmanager
def imports_of_extra(process: str, extra: str) -> Iterator[None]:
    """Import the parts of a process in this block. If a library is missing, exit with 1 and name the extra to install.

    ``extra``: what stands between the brackets of ``gsi-serve[…]``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or str(error)).partition(".")[0]
        if library in OURS:  # a fault of ours, which a traceback explains
            raise
        sys.exit(f"{process} cannot start: {library} is not installed: pip install 'gsi-serve[{extra}]'")
