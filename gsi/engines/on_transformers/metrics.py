"""The series of an engine on transformers. The names are those of vLLM, with our prefix."""

from gsi.runtime.series import Series

series = Series()
PREFIX_CACHE_QUERIES = series.counter(
    "gsi_prefix_cache_queries_total", "Tokens of prefixes that were looked up among the prefixes kept.", "tokens"
)
PREFIX_CACHE_HITS = series.counter(
    "gsi_prefix_cache_hits_total", "Tokens of prefixes that were found, and need not be read again.", "tokens"
)
CANDIDATE_READINGS = series.counter(
    "gsi_candidate_readings_total",
    "Candidates that target or PRM of a merged model asked for: read in a pass, or shared with the other one's pass.",
    "candidates",
    {"source": ("computed", "shared")},
)
PASS_PARTS = series.histogram(
    "gsi_pass_parts",
    "How many requests share a forward pass.",
    "requests",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
