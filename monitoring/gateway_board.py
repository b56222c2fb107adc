"""*Gateway*: who asks by HTTP, how soon they are answered, and who is turned away."""

from monitoring.board import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    make_documents_row,
    make_number,
    make_reached_number,
    make_redis_number,
)
from monitoring.promql import RANGE, RATE, gateways, quantile, ratio

REQUESTS = "gsi_gateway_requests_total"
FAILED = 'status=~"500|502|503"'
PROBES = 'route!~"/health|/ready"'


def _share_failed(window: str) -> str:
    """Return the share of failed requests, 0 where there was none."""
    failed = f"(sum ({gateways(REQUESTS, FAILED, window)}) or vector(0))"
    return ratio(failed, f"sum ({gateways(REQUESTS, PROBES, window)})")


NUMBERS = Row(
    "At a glance",
    [
        make_number(
            "Requests",
            "Requests per minute over the time range, without probes.",
            [Query(f"60 * sum ({gateways(REQUESTS, PROBES, RANGE)})")],
            unit="suffix: /min",
            width=3,
            decimals=1,
        ),
        make_number(
            "Failed",
            "Share of the requests that got status 500, 502 or 503, over the time range. 504 is left out: clients "
            "choose the deadlines of their jobs.",
            [Query(_share_failed(RANGE))],
            unit="percentunit",
            width=3,
            decimals=1,
            steps=((0, GREEN), (0.01, ORANGE), (0.05, RED)),
            alert="GsiGatewayErrors",
        ),
        make_number(
            "First step",
            "Within this time 19 of 20 requests had their first kept step, over the time range. Users who read a "
            "stream notice this number.",
            [Query(quantile(0.95, gateways("gsi_gateway_first_step_seconds_bucket", "", RANGE)))],
            unit="s",
            width=3,
            decimals=1,
            alert="GsiGatewaySlow",
        ),
        make_number(
            "Open requests",
            "Requests that are being answered now, streams included.",
            [Query(f"sum ({gateways('gsi_gateway_open_requests')})")],
            width=3,
            decimals=0,
        ),
        make_number(
            "Limited",
            "Requests per minute that got status 429 over the time range: a key's rate or budget, or a full queue.",
            [Query(f"60 * sum ({gateways('gsi_gateway_limited_total', '', RANGE)})")],
            unit="suffix: /min",
            width=3,
            decimals=1,
        ),
        make_number(
            "Batches",
            "Batches that gateways work on now.",
            [Query(f"sum ({gateways('gsi_gateway_batches')})")],
            width=3,
            decimals=0,
        ),
        make_redis_number(
            "Shows away while a gateway cannot read a queue.",
            f"min ({gateways('gsi_redis_reachable')} and on (instance) gsi_gateway_open_requests)",
        ),
        make_reached_number("Gateways", f"count ({gateways('gsi_gateway_open_requests')})", "GsiGatewayGone"),
    ],
)

ANSWERS = Row(
    "Requests",
    [
        Panel(
            "Requests by route",
            "Requests that end, by the route that they asked for.",
            Kind.STACK,
            [Query(f"sum by (route) ({gateways(REQUESTS, PROBES, RATE)})", "{{route}}")],
            unit="reqps",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Requests by status",
            "Requests that end, by HTTP status; a stream has the status that it began with. 499: the client went away "
            "before it was answered, and its jobs were cancelled.",
            Kind.STACK,
            [Query(f"sum by (status) ({gateways(REQUESTS, PROBES, RATE)})", "{{status}}")],
            unit="reqps",
            minimum=0,
            colours={"200": GREEN, "429": ORANGE, "499": GREY, "500": RED, "503": RED, "504": PURPLE},
            is_main=True,
            alert="GsiGatewayErrors",
        ),
        Panel(
            "Open requests and streams",
            "Requests and streams that are open. A gateway refuses connections above GSI_GATEWAY_MAX_CONNECTIONS.",
            Kind.LINES,
            [
                Query(f"sum ({gateways('gsi_gateway_open_requests')})", "requests"),
                Query(f"sum ({gateways('gsi_gateway_open_streams')})", "streams"),
            ],
            minimum=0,
        ),
        Panel(
            "Turned away, by limit",
            "Requests that got status 429. requests and tokens: a key's rate. budget: a key has spent its tokens. "
            "queue: the queue is full (gsi queue limit).",
            Kind.STACK,
            [Query(f"sum by (limit) ({gateways('gsi_gateway_limited_total', '', RATE)})", "{{limit}}")],
            unit="reqps",
            minimum=0,
        ),
    ],
)

TIMES = Row(
    "Time",
    [
        Panel(
            "Time to the first step",
            "From the submission of a request's jobs to the first step that one of them keeps: the wait in the queue, "
            "and one step of the models.",
            Kind.LINES,
            [
                Query(quantile(share, gateways("gsi_gateway_first_step_seconds_bucket", "", RATE)), f"p{share * 100:g}")
                for share in (0.5, 0.95)
            ],
            unit="s",
            minimum=0,
            is_main=True,
            alert="GsiGatewaySlow",
        ),
        Panel(
            "Time of a request, p95 by route",
            "Within this time 19 of 20 requests were answered to the end. A stream lasts as long as its job.",
            Kind.LINES,
            [
                Query(
                    quantile(0.95, gateways("gsi_gateway_request_seconds_bucket", PROBES, RATE), by="le, route"),
                    "{{route}}",
                )
            ],
            unit="s",
            minimum=0,
            is_main=True,
        ),
    ],
)

WORK = Row(
    "What was asked for",
    [
        Panel(
            "Tokens by role",
            "Tokens of requests that have ended. answer: what clients got. draft and target: what these models wrote "
            "for it, discarded candidates included. prm: what the reward model rated.",
            Kind.LINES,
            [Query(f"sum by (role) ({gateways('gsi_gateway_tokens_total', '', RATE)})", "{{role}}")],
            unit="suffix: tokens/s",
            minimum=0,
            colours={"prompt": GREY, "answer": GREEN, "draft": BLUE, "target": ORANGE, "prm": PURPLE},
        ),
        Panel(
            "Batches in progress",
            "Batches that gateways work on. Each is worked on by one gateway; another one goes on if that is lost.",
            Kind.LINES,
            [Query(f"sum ({gateways('gsi_gateway_batches')})", "batches")],
            minimum=0,
        ),
    ],
)

GATEWAY_BOARD = Board(
    "gsi-gateway",
    "GSI / Gateway",
    "Who asks by HTTP, how soon they are answered, and who is turned away.",
    [NUMBERS, ANSWERS, TIMES, WORK, make_documents_row("When an alert fires; Symptoms")],
)
