"""A model's name: a folder of this machine, or a checkpoint on the Hugging Face Hub."""

import difflib
from pathlib import Path

from gsi.errors import MisconfiguredError

NUM_SHOWN = 10  # folders that an error lists if none is like the name


def refuse_missing_folder(model: str) -> None:
    """Raise MisconfiguredError if a name looks like a folder and there is none: the Hub need not be asked.

    The Hub's names are ``name`` or ``owner/name``. So a name looks like a folder if it has more parts, begins or ends
    as paths do, or has for its owner a folder that is here.
    """
    folder = Path(model).expanduser()
    if not folder.exists() and _looks_like_folder(model, folder):
        raise MisconfiguredError(f"model: {model}: no such folder{_suggest(folder)}")
    if folder.is_file():
        raise MisconfiguredError(f"model: {model} is a file; allowed: a folder with a checkpoint, or a name on the Hub")


def _looks_like_folder(model: str, folder: Path) -> bool:
    if "://" in model:  # an address
        return False
    is_written_so = model.startswith(("/", "./", "../", "~")) or model.endswith("/") or model.count("/") > 1
    return is_written_so or ("/" in model and folder.parent.is_dir())


def _suggest(folder: Path) -> str:
    """Return which folder may be meant, of those under the nearest parent that exists."""
    parent, name = folder.parent, folder.name
    while not parent.is_dir():
        parent, name = parent.parent, parent.name
    found = sorted(path.name for path in parent.iterdir() if path.is_dir())
    if close := difflib.get_close_matches(name, found, n=1):
        return f"; did you mean {parent / close[0]}?"
    return f"; {parent} has {', '.join(found[:NUM_SHOWN]) or 'no folder'}"
