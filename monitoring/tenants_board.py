"""*Tenants*: who fills the queues, who uses the models, and who is turned away?"""

from monitoring.board import (
    GREEN,
    ORANGE,
    RED,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    make_documents_row,
    make_number,
)
from monitoring.promql import RANGE, RATE, coordinators, exporters, gateways, ratio

ENDED, SECONDS = "gsi_tenant_jobs_ended_total", "gsi_tenant_run_seconds_total"
REQUESTS, TOKENS = "gsi_gateway_tenant_requests_total", "gsi_gateway_tenant_tokens_total"
REFUSED = 'outcome=~"limited|refused"'
OF_TENANT = "/jobs?tenant=${__field.labels.tenant}"


def _held(place: str = "") -> str:
    """Return the jobs of each tenant, once per queue: while an exporter is replaced there are two."""
    matchers = f'place="{place}"' if place else ""
    return f"max by (namespace, release, queue, tenant, place) ({exporters('gsi_tenant_jobs', matchers)})"


def _make_place_panel(title: str, description: str, place: str, alert: str = "") -> Panel:
    return Panel(
        title,
        description,
        Kind.STACK,
        [Query(f"sum by (tenant) ({_held(place)})", "{{tenant}}")],
        unit="suffix: jobs",
        width=8,
        minimum=0,
        is_main=True,
        page=OF_TENANT,
        alert=alert,
    )


NUMBERS = Row(
    "At a glance",
    [
        make_number(
            "Tenants with jobs",
            "Tenants that have jobs which wait, run or are parked. Beyond 50 tenants of a queue, those with the fewest "
            "jobs count as one: other.",
            [Query(f"count (sum by (tenant) ({_held()}) > 0) or vector(0)")],
            width=6,
            decimals=0,
        ),
        make_number(
            "Largest share",
            "Share of all jobs that wait, run or are parked which belongs to the tenant with the most. Near 100 % one "
            "tenant has the system to itself. If others wait for it, set GSI_COORDINATOR_MAX_JOBS_PER_TENANT.",
            [Query(ratio(f"max (sum by (tenant) ({_held()}))", f"sum ({_held()})"))],
            unit="percentunit",
            width=6,
            decimals=0,
        ),
        make_number(
            "Did not succeed",
            "Share of the jobs that ended in the time range without SUCCEEDED, for the tenant with the highest.",
            [
                Query(
                    "max ("
                    + ratio(
                        "sum by (tenant) (" + coordinators(ENDED, 'state!="SUCCEEDED"', RANGE) + ")",
                        f"sum by (tenant) ({coordinators(ENDED, '', RANGE)})",
                    )
                    + ")"
                )
            ],
            unit="percentunit",
            width=6,
            decimals=0,
            steps=((0, GREEN), (0.1, ORANGE), (0.5, RED)),
        ),
        make_number(
            "Turned away",
            "Requests per minute with a valid key that gateways refused over the time range: 429 for a rate, a budget "
            "or a full queue, and other errors of the caller.",
            [Query(f"60 * sum ({gateways(REQUESTS, REFUSED, RANGE)})")],
            unit="suffix: /min",
            width=6,
            decimals=1,
        ),
    ],
)

HELD = Row(
    "Who fills the queues",
    [
        _make_place_panel(
            "Waiting",
            "Jobs that no coordinator has taken, among the 500 of each lane that have waited longest.",
            "waiting",
            alert="GsiOldestJobTooOld",
        ),
        _make_place_panel("In flight", "Jobs that are taken and not finished.", "in_flight"),
        _make_place_panel(
            "Parked",
            "Jobs whose tenant has as many in flight as it may (GSI_COORDINATOR_MAX_JOBS_PER_TENANT). They take no "
            "place of others.",
            "parked",
        ),
    ],
)

SERVED = Row(
    "Who uses the models",
    [
        Panel(
            "Jobs that run at once",
            "Seconds of runs per second, by tenant, as runs end: a tenant's share of the coordinators' slots, and "
            "nearly its share of the models.",
            Kind.STACK,
            [Query(f"sum by (tenant) ({coordinators(SECONDS, '', RATE)})", "{{tenant}}")],
            unit="suffix: jobs",
            minimum=0,
            is_main=True,
            page=OF_TENANT,
        ),
        Panel(
            "Jobs that end",
            "Jobs per minute that reach a final state, by tenant.",
            Kind.STACK,
            [Query(f"60 * sum by (tenant) ({coordinators(ENDED, '', RATE)})", "{{tenant}}")],
            unit="suffix: /min",
            minimum=0,
            is_main=True,
            page=OF_TENANT,
        ),
        Panel(
            "Seconds of a job",
            "Mean time that a tenant's job runs, with all its attempts and without its wait.",
            Kind.LINES,
            [
                Query(
                    ratio(
                        f"sum by (tenant) ({coordinators(SECONDS, '', RATE)})",
                        f"sum by (tenant) ({coordinators(ENDED, '', RATE)})",
                    ),
                    "{{tenant}}",
                )
            ],
            unit="s",
            minimum=0,
            page=OF_TENANT,
        ),
        Panel(
            "Jobs that end without an answer",
            "Jobs per minute that do not succeed, by tenant and state. FAILED is the caller's fault, EXPIRED its "
            "deadline, DEAD ours.",
            Kind.STACK,
            [
                Query(
                    "60 * sum by (tenant, state) (" + coordinators(ENDED, 'state!="SUCCEEDED"', RATE) + ") > 0",
                    "{{tenant}} {{state}}",
                )
            ],
            unit="suffix: /min",
            minimum=0,
            page="/jobs?tenant=${__field.labels.tenant}&state=${__field.labels.state}",
            alert="GsiManyJobsDie",
        ),
    ],
)

ASKED = Row(
    "At the gateways",
    [
        Panel(
            "Requests by tenant",
            "Requests to do something (POST) with a valid key, by the key's tenant.",
            Kind.STACK,
            [Query(f"sum by (tenant) ({gateways(REQUESTS, '', RATE)})", "{{tenant}}")],
            unit="reqps",
            minimum=0,
            is_main=True,
            page=OF_TENANT,
        ),
        Panel(
            "Turned away by tenant",
            "limited: status 429, by the key's rate or budget or a full queue. refused: another error of the caller, "
            "such as a model that the key does not allow.",
            Kind.STACK,
            [
                Query(
                    f"sum by (tenant, outcome) ({gateways(REQUESTS, REFUSED, RATE)}) > 0",
                    "{{tenant}} {{outcome}}",
                )
            ],
            unit="reqps",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Tokens by tenant",
            "Tokens of requests that have ended, as they count against a key's budget: the prompt, and what each model "
            "wrote or rated.",
            Kind.STACK,
            [Query(f"sum by (tenant) ({gateways(TOKENS, '', RATE)})", "{{tenant}}")],
            unit="suffix: tokens/s",
            minimum=0,
            page=OF_TENANT,
        ),
        Panel(
            "Tokens in the time range",
            "What each tenant has used in the time range. A key's own count, which budgets go by: gsi keys list.",
            Kind.BARS,
            [Query(f"sum by (tenant) ({gateways(TOKENS, '', RANGE).replace('rate(', 'increase(', 1)})", "tenant")],
            decimals=0,
            minimum=0,
        ),
    ],
)

TENANTS_BOARD = Board(
    "gsi-tenants",
    "GSI / Tenants",
    "Who fills the queues, who uses the models, and who is turned away?",
    [NUMBERS, HELD, SERVED, ASKED, make_documents_row("GsiOldestJobTooOld; Commands")],
)
