"""A finding: what was looked at, whether it is right, and what to do if it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is. An error makes jobs fail; a warning makes them worse, or ends them early."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a subject, as a sentence; ``advice`` says what to do, unless all is well."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def good(subject: str, text: str) -> Finding:
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    return Finding(Level.WARNING, subject, text, advice)


def error(subject: str, text: str, advice: str) -> Finding:
    return Finding(Level.ERROR, subject, text, advice)


def worst(findings: Sequence[Finding]) -> Level:
    """Return the worst level among findings; OK if there are none."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.OK)
