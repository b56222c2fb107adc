"""Where this installation has what a wheel has elsewhere than a checkout (``hatch_build.py`` moves it)."""

from pathlib import Path
from typing import Final

_PACKAGE = Path(__file__).parents[1]
_IS_WHEEL = (_PACKAGE / "services").is_dir()

DISTRIBUTION: Final = "gsi-serve"
"""The name on the index."""
SERVICES: Final = "gsi.services" if _IS_WHEEL else "services"
"""The package of the processes: ``python -m SERVICES.draft``."""
SHIPPED_MODELS: Final = _PACKAGE / "family" if _IS_WHEEL else _PACKAGE.parent / "models"
"""The folder of the shipped models draft, target and prm, and of their held-out problems."""


def how_to_install(extra: str) -> str:
    """Return the command that adds an optional part."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
