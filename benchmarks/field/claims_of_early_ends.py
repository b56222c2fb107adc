"""What the papers of early ends claim: of responses, of votes, and of the candidates of a step."""

from collections.abc import Sequence

from benchmarks.field.claim import Claim
from benchmarks.field.tests_of_claims import ClaimTest, all_of, fewer_flops, hardly_less_accurate

STEPS = "best-of-n:steps"


def _as_good_for_less(label: str, other: str) -> ClaimTest:
    """The first is as accurate as the second at n = 16, within two points, with fewer FLOPs."""
    pair = ((label, 16), (other, 16))
    return all_of(hardly_less_accurate(*pair, margin=0.02), fewer_flops(*pair))


CLAIMS: Sequence[Claim] = (
    Claim(
        "speculative-rejection",
        "is as good as best-of-n with less computation (16 to 32 times less)",
        "Speculative Rejection (arXiv 2410.20290), abstract",
        _as_good_for_less("speculative-rejection:draft", "best-of-n:last"),
    ),
    Claim(
        "confidence-vote",
        "is as accurate as a majority vote with fewer tokens (by up to 84.7 %)",
        "DeepConf (arXiv 2508.15260), abstract",
        _as_good_for_less("confidence-vote:draft", "majority-vote:draft"),
    ),
    Claim(
        "best-of-n",
        "with Pandora's rule is as good with fewer candidates (15 to 35 % fewer)",
        "Optimal Stopping vs Best-of-N (arXiv 2510.01394), abstract",
        _as_good_for_less(f"{STEPS}:n_rule=pandora", STEPS),
    ),
    Claim(
        "best-of-n",
        "with BEACON's rule is as good with fewer candidates (by up to 80 %)",
        "BEACON (arXiv 2510.15945), abstract",
        _as_good_for_less(f"{STEPS}:n_rule=beacon", STEPS),
    ),
)
