"""What the papers of SPECS, the particle filter and diverse verifier tree search claim."""

from collections.abc import Sequence

from benchmarks.field.claim import Claim
from benchmarks.field.tests_of_claims import all_of, faster, hardly_less_accurate

CLAIMS: Sequence[Claim] = (
    Claim(
        "specs",
        "is as accurate as beam search on the target, and faster (by up to 19.1 %)",
        "SPECS (arXiv 2506.15733), abstract",
        all_of(
            hardly_less_accurate(("specs", 16), ("beam-search:target", 16), margin=0.02),
            faster(("specs", 16), ("beam-search:target", 16)),
        ),
    ),
    Claim(
        "particle-filter",
        "needs a quarter (to a sixteenth) of the candidates of a deterministic search",
        "Puri et al. (arXiv 2502.01618), abstract",
        hardly_less_accurate(("particle-filter:draft", 4), ("beam-search:draft", 16), margin=0.02),
    ),
    Claim(
        "dvts",
        "is more accurate than beam search where much is computed",
        "Beeching et al., Scaling Test-Time Compute with Open Models (2024)",
        why_not="it is said of large n, and this benchmark ends at n = 16",
    ),
)
