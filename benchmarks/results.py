"""Where measurements are written, and the machine and date that belong to them."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from gsi.runtime.machine import describe_machine, today

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nMeasured, not promised: each section says on what machine, when, and by which command.\n"
progress = Console(stderr=True)


def describe_conditions() -> dict[str, str]:
    """Return a line about this machine, and today's date (UTC)."""
    return {"machine": f"{describe_machine()}, no GPU used", "date": today()}


Format = Callable[[Mapping[str, Any]], str]


def publish(report: Mapping[str, Any], heading: str, form: Format, *, as_json: bool) -> None:
    """Print a report as one JSON object, or else write it into RESULTS.md as ``form`` words it."""
    if as_json:
        print(json.dumps(report))
    else:
        write_section(heading, form(report))


def write_section(heading: str, text: str) -> None:
    """Write a section of RESULTS.md in place of the section with the same heading."""
    old = RESULTS.read_text() if RESULTS.exists() else TITLE
    kept = [part for part in re.split(r"(?m)^(?=## )", old) if not part.startswith(f"## {heading}\n")]
    RESULTS.write_text("".join(kept).rstrip() + f"\n\n## {heading}\n\n{text}")
