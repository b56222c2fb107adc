"""Where measurements are written, and on what they were made."""

import datetime
import os
import platform
import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nMeasured, not promised: each section says on what machine, when, and by which command.\n"


def machine() -> dict[str, str]:
    """Return a line about this machine, and today's date (UTC)."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    name = models[0].strip() if models else platform.machine()
    today = datetime.datetime.now(datetime.UTC).date()
    return {"machine": f"{os.cpu_count()} cores of {name}, no GPU used", "date": today.isoformat()}


def write_section(heading: str, text: str) -> None:
    """Write one section of RESULTS.md, in place of an older one of the same heading."""
    old = RESULTS.read_text() if RESULTS.exists() else TITLE
    kept = [part for part in re.split(r"(?m)^(?=## )", old) if not part.startswith(f"## {heading}\n")]
    RESULTS.write_text("".join(kept).rstrip() + f"\n\n## {heading}\n\n{text}")
