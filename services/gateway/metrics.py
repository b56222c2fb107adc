"""What the gateway measures."""

from gsi.runtime.series import Series

SECONDS_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

series = Series()

_ROUTE = "the path of a route, or other"
REQUESTS = series.counter(
    "gsi_gateway_requests_total",
    "Requests that were answered, by their HTTP status; of a stream, the status that it began with. 499: the client "
    "went away before.",
    "requests",
    {"route": _ROUTE, "status": "the HTTP status"},
)
REQUEST_SECONDS = series.histogram(
    "gsi_gateway_request_seconds",
    "Time of a request, to the end of its answer.",
    "seconds",
    {"route": _ROUTE},
    buckets=SECONDS_BUCKETS,
)
OPEN_REQUESTS = series.gauge(
    "gsi_gateway_open_requests", "Requests that are being answered, streams included.", "requests"
)
TOKENS = series.counter(
    "gsi_gateway_tokens_total",
    "Tokens of requests that have ended. prompt: read once by each job. answer: of the kept steps. draft and target: "
    "written, discarded candidates included. prm: of the candidates that it rated, in the language models' vocabulary.",
    "tokens",
    {"role": ("prompt", "answer", "draft", "target", "prm")},
)
