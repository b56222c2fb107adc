"""What the papers of judged methods claim. None can be tested with models that know only their word problems."""

from collections.abc import Sequence

from benchmarks.field.claim import Claim

WHY_NOT = "the shipped models know only their word problems, so what they answer about a step means nothing"

CLAIMS: Sequence[Claim] = (
    Claim(
        "spec-reason",
        "is 1.4 to 3.0 times as fast as the target alone and 0.4 to 9.0 points more accurate",
        "SpecReason (arXiv 2504.07891), abstract",
        why_not=WHY_NOT,
    ),
    Claim(
        "conf-spec",
        "is up to 2.24 times as fast as the target alone and as accurate",
        "ConfSpec (arXiv 2602.18447), abstract",
        why_not=WHY_NOT,
    ),
)
