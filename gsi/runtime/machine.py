"""The machine and the date of a measurement, for reports."""

import datetime
import os
import platform
import re
from pathlib import Path


def describe_machine() -> str:
    """Return a phrase about this machine's processor."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{os.cpu_count()} cores of {models[0].strip() if models else platform.machine()}"


def today() -> str:
    """Return the date in UTC, as YYYY-MM-DD."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
