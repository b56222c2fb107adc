"""What a claim of a paper is."""

from dataclasses import dataclass

from benchmarks.field.tests_of_claims import ClaimTest


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim. It has a ``test``, or ``why_not``: why the figures of this benchmark cannot tell."""

    method: str  # a name in METHODS
    says: str
    source: str
    test: ClaimTest | None = None
    why_not: str = ""
