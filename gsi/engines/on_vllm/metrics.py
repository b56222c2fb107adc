"""The series of an engine on vLLM that this package adds to vLLM's own."""

from gsi.runtime.series import Series

series = Series()
SCORES_RECOMPUTED = series.counter(
    "gsi_scores_recomputed_total",
    "Likelihoods that were computed again from the whole prompt, because the faster way over the prefix cache gave a "
    "positive number, no number, or the number of another token. Expected to stay 0.",
    "candidates",
)
