"""A profile of one's own for the shipped PRM: each line of a step has a mark, and a candidate's mean counts."""

from pathlib import Path

OWN = """
description = "As Qwen2.5-Math-PRM, and each line has its own mark"
source = "this test"
[conversation]
form = "template"
[steps]
mark_token = "<extra_0>"
separator = "\\n"
[output]
read = "labels"
reward = "softmax"
combine = "mean"
"""


def write_own_profile(folder: Path, old: str = "", new: str = "") -> str:
    """Write the profile into a folder, with ``new`` in place of ``old``; return the file's path."""
    path = folder / "own.toml"
    path.write_text(OWN.replace(old, new) if old else OWN)
    return str(path)
