"""What the paper of Arbitrage claims."""

from collections.abc import Sequence

from benchmarks.field.claim import Claim
from benchmarks.field.tests_of_claims import all_of, faster, hardly_less_accurate

CLAIMS: Sequence[Claim] = (
    Claim(
        "arbitrage",
        "is faster than other step-level speculation at the same accuracy (by up to about 2 times)",
        "Arbitrage (arXiv 2512.05033), abstract",
        all_of(
            hardly_less_accurate(("arbitrage", 1), ("rsd", 1), margin=0.02),
            faster(("arbitrage", 1), ("rsd", 1)),
        ),
    ),
    Claim(
        "arbitrage-oracle",
        "is the ideal that the router approximates: no router is more accurate",
        "Arbitrage (arXiv 2512.05033), abstract",
        hardly_less_accurate(("arbitrage-oracle", 1), ("arbitrage", 1), margin=0.02),
    ),
)
