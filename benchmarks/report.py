"""Where measurements are written, and on what they were made."""

import re
from pathlib import Path

from gsi.runtime.machine import describe_machine, today

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nMeasured, not promised: each section says on what machine, when, and by which command.\n"


def machine() -> dict[str, str]:
    """Return a line about this machine, and today's date (UTC)."""
    return {"machine": f"{describe_machine()}, no GPU used", "date": today()}


def write_section(heading: str, text: str) -> None:
    """Write one section of RESULTS.md, in place of an older one of the same heading."""
    old = RESULTS.read_text() if RESULTS.exists() else TITLE
    kept = [part for part in re.split(r"(?m)^(?=## )", old) if not part.startswith(f"## {heading}\n")]
    RESULTS.write_text("".join(kept).rstrip() + f"\n\n## {heading}\n\n{text}")
