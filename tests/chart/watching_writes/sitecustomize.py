"""Note in a file what this process opens to write, makes, moves or removes: a read-only file system would refuse it.

Python imports it at the start of a process that has this folder in its PYTHONPATH, and WRITES_NOTED_IN names the file.
What native code writes by itself is not seen.
"""

import os
import sys
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}

_notes = os.open(os.environ["WRITES_NOTED_IN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    is_write = (event == "open" and bool(arguments[2] & WRITING)) or event in CHANGING
    if is_write and isinstance(arguments[0], str | bytes | os.PathLike):
        os.write(_notes, os.path.abspath(os.fsencode(arguments[0])) + b"\n")


sys.addaudithook(_note)
