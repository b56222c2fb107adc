"""*Service levels*: is what was promised kept, and how fast is the error budget used up?

Its series are recorded by ``helm/alerts/slo.yaml``, which ``slo.py`` writes.
"""

from gsi.jobs.keys import Priority
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
)
from monitoring.promql import RATE, coordinators, quantile, recorded
from monitoring.slo import ALERTS, BUDGET_DAYS, MISSED, Alert

BUDGET_STEPS = ((0, RED), (0.0001, ORANGE), (0.25, GREEN))
FAST, SLOW = ALERTS
LANE_COLOURS: dict[str, str] = {Priority.HIGH: RED, Priority.NORMAL: BLUE, Priority.LOW: GREY}
DAYS = f"{BUDGET_DAYS} days"
LOST = f'state=~"{"|".join(MISSED)}"'


def _kept(what: str) -> str:
    """Return the share that went as promised: of jobs, or of each lane's answers."""
    return f"1 - {recorded(f'release:gsi_slo_{what}:ratio{BUDGET_DAYS}d')}"


def _left(what: str) -> str:
    """Return the share of the budget that is left, down to -1: below that a line tells nothing more."""
    return f"clamp_min({recorded(f'release:gsi_slo_{what}:budget_left')}, -1)"


def _make_burn_panel(title: str, what: str, by: str, alert: Alert, alert_name: str) -> Panel:
    """Return both windows of an alert, with the rate above which it fires."""
    burn = f"release:gsi_slo_{what}:burn_rate"
    windows = [
        Query(f"max by ({by}) ({recorded(burn + window)})", f"{window} {{{{{by}}}}}")
        for window in (alert.long, alert.short)
    ]
    return Panel(
        title,
        f"1: the budget lasts for {DAYS}. The alert ({alert.severity}) fires while the last {alert.long} and the last "
        f"{alert.short} are both above {alert.burn_rate:g}.",
        Kind.LINES,
        [*windows, Query(f"0 * max ({recorded(burn + alert.long)}) + {alert.burn_rate:g}", "alert")],
        unit="suffix: x",
        minimum=0,
        colours={"alert": GREY},
        is_main=True,
        alert=alert_name,
    )


NUMBERS = Row(
    "At a glance",
    [
        make_number(
            "Success: budget left",
            f"Share of {DAYS}' error budget that is left, in the queue with the least: 100 % if every job got an "
            "answer, 0 % where the objective is just met, below 0 where it is missed.",
            [Query(f"min ({_left('missed')})")],
            unit="percentunit",
            width=6,
            decimals=1,
            steps=BUDGET_STEPS,
            alert="GsiSuccessBudgetBurnsFast",
        ),
        make_number(
            "Success",
            f"Share of the jobs of {DAYS} that got an answer, in the queue with the lowest: SUCCEEDED against DEAD and "
            "EXPIRED.",
            [Query(f"min ({_kept('missed')})")],
            unit="percentunit",
            width=6,
            decimals=2,
        ),
        make_number(
            "Time to answer: budget left",
            "The same budget for answers that came in the time of their lane, in the lane with the least.",
            [Query(f"min ({_left('late')})")],
            unit="percentunit",
            width=6,
            decimals=1,
            steps=BUDGET_STEPS,
            alert="GsiAnswerTimeBudgetBurnsFast",
        ),
        make_number(
            "Answers in time",
            f"Share of the answers of {DAYS} that came in the time of their lane, in the lane with the lowest.",
            [Query(f"min ({_kept('late')})")],
            unit="percentunit",
            width=6,
            decimals=2,
        ),
    ],
)

BUDGETS = Row(
    "Error budget",
    [
        Panel(
            "Success: budget left by queue",
            f"Falls with each job that ends DEAD or EXPIRED, and rises again {DAYS} later, or as other jobs succeed.",
            Kind.LINES,
            [Query(f"min by (queue) ({_left('missed')})", "left {{queue}}")],
            unit="percentunit",
            minimum=-1,
            maximum=1,
            is_main=True,
            alert="GsiSuccessBudgetBurnsFast",
        ),
        Panel(
            "Time to answer: budget left by lane",
            "Falls with each answer that comes later than its lane's time. A lane without answers has no line.",
            Kind.LINES,
            [Query(f"min by (lane) ({_left('late')})", "{{lane}}")],
            unit="percentunit",
            minimum=-1,
            maximum=1,
            colours=LANE_COLOURS,
            is_main=True,
            alert="GsiAnswerTimeBudgetBurnsFast",
        ),
    ],
)

BURNS = Row(
    "How fast the budget burns",
    [
        _make_burn_panel("Success, fast burn", "missed", "queue", FAST, "GsiSuccessBudgetBurnsFast"),
        _make_burn_panel("Success, slow burn", "missed", "queue", SLOW, "GsiSuccessBudgetBurnsSlow"),
        _make_burn_panel("Time to answer, fast burn", "late", "lane", FAST, "GsiAnswerTimeBudgetBurnsFast"),
        _make_burn_panel("Time to answer, slow burn", "late", "lane", SLOW, "GsiAnswerTimeBudgetBurnsSlow"),
    ],
)

CAUSES = Row(
    "What is behind it",
    [
        Panel(
            "Jobs without an answer",
            "Jobs per minute that ended DEAD or EXPIRED. Jobs that are FAILED or CANCELLED are the caller's, and cost "
            "no budget.",
            Kind.STACK,
            [
                Query(
                    f"60 * sum by (state) ({coordinators('gsi_jobs_ended_total', LOST, RATE)})",
                    "{{state}}",
                )
            ],
            unit="suffix: /min",
            minimum=0,
            colours={"DEAD": RED, "EXPIRED": PURPLE},
            page="/jobs?state=${__field.labels.state}",
        ),
        Panel(
            "Time to answer, p95 by lane",
            "Within this time 19 of 20 jobs that succeeded had their answer, their wait in the queue included.",
            Kind.LINES,
            [Query(quantile(0.95, coordinators("gsi_answer_seconds_bucket", "", RATE), by="le, lane"), "{{lane}}")],
            unit="s",
            minimum=0,
            colours=LANE_COLOURS,
            page="/jobs?state=SUCCEEDED",
        ),
    ],
)

SLO_BOARD = Board(
    "gsi-slo",
    "GSI / Service levels",
    "Is what was promised kept, and how fast is the error budget used up? It needs the recording rules of "
    "helm/alerts/slo.yaml, and a Prometheus that keeps 30 days.",
    [NUMBERS, BUDGETS, BURNS, CAUSES, make_documents_row("When an error budget burns")],
)
