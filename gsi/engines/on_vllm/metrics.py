"""The series of the engines that are ours; vLLM adds its own."""

from gsi.runtime.series import Series

series = Series()
SCORES_RECOMPUTED = series.counter(
    "gsi_scores_recomputed_total",
    "Likelihoods that the prefix cache gave as a positive number, no number, or of another token, and that were "
    "computed again from the whole prompt. It stays 0.",
    "candidates",
)
