"""What the papers claim, with the place in the paper, and a test on the figures or the reason why there is none.

A claim is about the paper's models and problems. "Not seen here" is said of this family and these word problems.
"""

from collections.abc import Sequence

from benchmarks.field import claims_of_early_ends, claims_of_judges, claims_of_routers, claims_of_searches
from benchmarks.field.claim import Claim
from benchmarks.field.figures import Field
from benchmarks.field.tests_of_claims import (
    Finding,
    Verdict,
    accepts,
    faster,
    fewer_flops,
    hardly_less_accurate,
    more_accurate,
)

SBON_DRAFT, SBON_TARGET = "soft-best-of-n:draft", "soft-best-of-n:target"
TARGET = ("target", 1)


OF_GSI_AND_RSD: Sequence[Claim] = (
    Claim(
        "gsi",
        "is more accurate than soft best-of-n on the draft",
        "GSI, abstract and Table 1",
        more_accurate(("gsi", 16), (SBON_DRAFT, 16)),
    ),
    Claim("gsi", "is more accurate than RSD", "GSI, abstract and Table 1", more_accurate(("gsi", 16), ("rsd", 16))),
    Claim(
        "gsi",
        "in certain settings is more accurate than soft best-of-n on the target",
        "GSI, abstract",
        more_accurate(("gsi", 4), (SBON_TARGET, 4)),
    ),
    Claim(
        "gsi",
        "loses little against soft best-of-n on the target (1.5 points at n = 16)",
        "GSI, Table 1",
        hardly_less_accurate(("gsi", 16), (SBON_TARGET, 16), margin=0.03),
    ),
    Claim(
        "gsi",
        "is faster than soft best-of-n on the target",
        "GSI, Table 2",
        faster(("gsi", 16), (SBON_TARGET, 16)),
    ),
    Claim("gsi", "accepts most steps of the draft (91 % at n = 16)", "GSI, Table 2", accepts(("gsi", 16), 0.5)),
    Claim(
        "gsi",
        "is clearly more accurate than without its rejection step, at small n above all",
        "GSI, Figure 2",
        more_accurate(("gsi", 4), ("gsi-no-rejection", 4)),
    ),
    Claim(
        "gsi-no-rejection",
        "approaches the tilted policy of the target as n grows",
        "GSI, Theorem 1",
        why_not="right and wrong answers do not show a law; tests/algorithm compares it in worlds that can be counted",
    ),
    Claim(
        "rsd",
        "needs fewer FLOPs than the target alone (up to 4.4 times)",
        "RSD, abstract",
        fewer_flops(("rsd", 1), TARGET),
    ),
    Claim(
        "rsd",
        "is more accurate than speculative decoding, whose law is the target's",
        "RSD, abstract and Table 2",
        more_accurate(("rsd", 1), TARGET),
    ),
    Claim(
        "rsd",
        "accepts almost all steps of the draft (97 % at n = 16)",
        "GSI, section 4.1 and Table 2",
        accepts(("rsd", 16), 0.9),
    ),
    Claim(
        "rsd",
        "with target and PRM merged into one model is as accurate (66.7 against 66.1 with 7B)",
        "RSD, Tables 4 and B.3",
        why_not="the shipped PRM (5 layers of 224) and targets (4 and 24 layers of 128) have different shapes, so that "
        "nothing can be merged linearly; `make bench-merged` measures what one pass for both saves",
    ),
    Claim(
        "majority-vote",
        "on the draft is less accurate than the target alone",
        "RSD, section 4 (observation 1 on Table 2)",
        more_accurate(TARGET, ("majority-vote:draft", 16)),
    ),
    Claim(
        "best-of-n",
        "on the draft is less accurate than the target alone",
        "RSD, section 4 (observation 1 on Table 2)",
        more_accurate(TARGET, ("best-of-n:last", 16)),
    ),
    Claim(
        "beam-search",
        "on the draft is less accurate than RSD",
        "RSD, section 4 and Table 3",
        more_accurate(("rsd", 1), ("beam-search:draft", 16)),
    ),
)


CLAIMS: Sequence[Claim] = (
    *OF_GSI_AND_RSD,
    *claims_of_searches.CLAIMS,
    *claims_of_early_ends.CLAIMS,
    *claims_of_routers.CLAIMS,
    *claims_of_judges.CLAIMS,
)


def judge_claims(field: Field, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """Return what the figures say of each claim."""
    return [
        Finding(Verdict.NOT_TESTABLE, claim.why_not) if claim.test is None else claim.test.run(field)
        for claim in claims
    ]
