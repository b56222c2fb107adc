"""One part of a run, as a process: ``python -m benchmarks.gpu.part MODULE FILE [--rehearse]``."""

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.parts import Report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    import_module(given.module).measure(Report(given.file), is_rehearsal=given.rehearse)


if __name__ == "__main__":
    main()
