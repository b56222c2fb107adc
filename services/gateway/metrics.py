"""What the gateway measures."""

from gsi.jobs.tenant_label import TENANT_VALUES, TenantLabel
from gsi.runtime.series import Series
from services.gateway.errors import LEFT_STATUS

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
OUTCOMES = ("answered", "limited", "refused", "failed", "left")
TENANT_REQUESTS = series.counter(
    "gsi_gateway_tenant_requests_total",
    "Requests to do something (POST) with a valid key, by the tenant of the key. limited: status 429. refused: another "
    "status of 400 to 498. failed: 500 and above. left: the client went away before. The first tenants that a gateway "
    "meets have a value of their own.",
    "requests",
    {"tenant": TENANT_VALUES, "outcome": OUTCOMES},
)
TENANT_TOKENS = series.counter(
    "gsi_gateway_tenant_tokens_total",
    "Tokens of requests that have ended, as they count against a key's budget: the prompt, and what each model wrote "
    "or rated.",
    "tokens",
    {"tenant": TENANT_VALUES},
)
_tenants = TenantLabel()


def observe_tenant_request(tenant: str, status: int) -> None:
    """Count a request of a tenant by its outcome."""
    name = _tenants.name(tenant)
    for outcome in OUTCOMES:  # an outcome that has not occurred shows 0
        TENANT_REQUESTS.labels(name, outcome)
    TENANT_REQUESTS.labels(name, _outcome_of(status)).inc()


def observe_tenant_tokens(tenant: str, num_tokens: int) -> None:
    """Count tokens of a tenant's requests."""
    TENANT_TOKENS.labels(_tenants.name(tenant)).inc(num_tokens)


def _outcome_of(status: int) -> str:
    named = {429: "limited", LEFT_STATUS: "left"}
    if status in named:
        return named[status]
    return "answered" if status < 400 else "refused" if status < 500 else "failed"
