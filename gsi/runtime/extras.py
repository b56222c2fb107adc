"""Parts of the installation that a process needs, and the base installation does not have."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gsi.runtime.installation import how_to_install

OURS = frozenset({"gsi", "services"})


@contextmanager
def imports_of(process: str, extra: str | None = None) -> Iterator[None]:
    """Import the parts of a process in this block. If a library is missing, exit with 1 and name the extra to install.

    ``extra`` None: that of the engine of a model service.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or str(error)).partition(".")[0]
        if library in OURS:  # a fault of ours, which a traceback explains
            raise
        wanted = extra or os.environ.get(f"GSI_{process.upper()}_ENGINE", "transformers")
        sys.exit(f"the {process} cannot start: {library} is not installed: {how_to_install(wanted)}")
