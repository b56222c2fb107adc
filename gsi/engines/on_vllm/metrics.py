"""The engine's own series; vLLM adds others."""

from gsi.runtime.series import Series

series = Series()
SCORES_RECOMPUTED = series.counter(
    "gsi_scores_recomputed_total",
    "Candidates whose likelihood by the prefix cache was wrong (a positive number, NaN, or another token's) and was "
    "computed again from the whole prompt. It should stay 0.",
    "candidates",
)
