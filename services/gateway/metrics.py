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
OPEN_STREAMS = series.gauge("gsi_gateway_open_streams", "Streams of events that are open.", "streams")
FIRST_STEP_SECONDS = series.histogram(
    "gsi_gateway_first_step_seconds",
    "Time from the submission of a request's jobs to the first step that one of them keeps.",
    "seconds",
    buckets=SECONDS_BUCKETS,
)
LIMITED = series.counter(
    "gsi_gateway_limited_total",
    "Requests that were refused with status 429. requests and tokens: the key's rate. budget: the key has spent its "
    "tokens. queue: the queue is full (`gsi queue limit`).",
    "requests",
    {"limit": ("requests", "tokens", "budget", "queue")},
)
BATCHES = series.gauge("gsi_gateway_batches", "Batches that this gateway works on.", "batches")
TOKENS = series.counter(
    "gsi_gateway_tokens_total",
    "Tokens of requests that have ended. prompt: read once by each job. answer: of the kept steps. draft and target: "
    "written, discarded candidates included. prm: of the candidates that it rated, in the language models' vocabulary.",
    "tokens",
    {"role": ("prompt", "answer", "draft", "target", "prm")},
)
