"""*Queue*: what waits, who works on it, and what goes wrong.

The queue's own gauges are the same at every coordinator: the maximum of each queue, never the sum over coordinators.
"""

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
    number,
    where_to_look,
)
from monitoring.promql import RANGE, RATE, coordinators, quantile

QUEUES = "namespace, release, queue"
STATE_COLOURS = {
    "SUCCEEDED": GREEN,
    "FAILED": ORANGE,
    "CANCELLED": GREY,
    "EXPIRED": PURPLE,
    "DEAD": RED,
    "QUEUED": BLUE,
}


def by_queue(name: str) -> str:
    """Return a gauge of the queue itself, once for each queue."""
    return f"max by ({QUEUES}) ({coordinators(name)})"


def _number(name: str, function: str = "sum") -> str:
    return f"{function} ({by_queue(name)})"


def _grown(name: str, by: str, window: str = RATE) -> str:
    """Return by how much a counter grew in a window, over all coordinators."""
    selected = coordinators(name, "", window).replace("rate(", "increase(", 1)
    return f"sum by ({by}) ({selected})"


def _named(by_queue: str) -> str:
    """Return the same with a label for the bars, also where scraping adds none."""
    return f'label_replace({by_queue}, "queue", "all", "queue", "")'


AT_A_GLANCE = Row(
    "At a glance",
    [
        number(
            "Waiting",
            "Jobs that no coordinator has taken: the lag of the queue's streams. Parked and delayed jobs are not in "
            "it.",
            [Query(_number("gsi_stream_lag"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
        ),
        number(
            "Oldest waiting",
            "Age of the oldest job that no coordinator has taken; 0 if none waits. This is what users feel.",
            [Query(_number("gsi_oldest_waiting_seconds", "max"))],
            unit="s",
            width=3,
            decimals=0,
            steps=((0, GREEN), (300, ORANGE), (3600, RED)),
        ),
        number(
            "In flight",
            "Jobs that are taken and not yet finished, by all coordinators: the entries pending in the streams.",
            [Query(_number("gsi_stream_pending"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
        ),
        number(
            "Dead letters",
            "Jobs that were given up and that nobody has retried or purged yet: gsi dead list names them.",
            [Query(_number("gsi_dead_jobs"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
            steps=((0, GREEN), (1, RED)),
        ),
        number(
            "Succeeded",
            "Jobs a minute that end with an answer, over the time range.",
            [Query("60 * sum (" + coordinators("gsi_jobs_total", 'state="SUCCEEDED"', RANGE) + ")")],
            unit="suffix: /min",
            width=3,
            decimals=1,
        ),
        number(
            "Queue",
            "Paused while a queue is (gsi queue pause): no new job is taken, those that run go on.",
            [Query(_number("gsi_queue_paused", "max"))],
            width=3,
            steps=((0, GREEN), (1, ORANGE)),
            words={0: "running", 1: "paused"},
        ),
        number(
            "Redis",
            "Away while a coordinator does not reach Redis, or Redis refuses to work: its disk or memory may be full.",
            [Query(f"min ({coordinators('gsi_redis_reachable')})")],
            width=3,
            steps=((0, RED), (1, GREEN)),
            words={0: "away", 1: "reachable"},
        ),
        number(
            "Coordinators",
            "Coordinators that Prometheus reaches now.",
            [Query(f"count ({coordinators('gsi_jobs_in_flight')})")],
            width=3,
            decimals=0,
            steps=((0, RED), (1, GREEN)),
        ),
    ],
)

BACKLOG = Row(
    "What waits",
    [
        Panel(
            "Waiting and in flight",
            "Jobs that nobody has taken, and jobs that are taken and not finished, of each queue. Autoscaling looks "
            "at both.",
            Kind.LINES,
            [
                Query(by_queue("gsi_stream_lag"), "waiting {{queue}}"),
                Query(by_queue("gsi_stream_pending"), "in flight {{queue}}"),
            ],
            unit="suffix: jobs",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Age of the oldest waiting job",
            "Grows by a second a second if nothing is taken: the queue is paused, has no coordinator, or all are busy.",
            Kind.LINES,
            [Query(by_queue("gsi_oldest_waiting_seconds"), "oldest {{queue}}")],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Age of leases",
            "The longest time since a job in flight was renewed. Leases are renewed at a quarter of "
            "GSI_COORDINATOR_LEASE_SECONDS; at the whole another coordinator takes the job over.",
            Kind.LINES,
            [Query(by_queue("gsi_lease_age_seconds"), "longest {{queue}}")],
            unit="s",
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Set aside",
            "Delayed: failed, and waiting for the next attempt. Parked: the tenant has enough in flight. Dead: "
            "given up.",
            Kind.LINES,
            [
                Query(by_queue("gsi_delayed_jobs"), "delayed {{queue}}"),
                Query(by_queue("gsi_parked_jobs"), "parked {{queue}}"),
                Query(by_queue("gsi_dead_jobs"), "dead {{queue}}"),
            ],
            unit="suffix: jobs",
            minimum=0,
            is_main=True,
        ),
    ],
)

WORK = Row(
    "Who works",
    [
        Panel(
            "Runs that end, by state",
            "Runs a second by the state that they left their job in. QUEUED: put off after a failure, to be tried "
            "again.",
            Kind.STACK,
            [Query(f"sum by (state) ({coordinators('gsi_jobs_total', '', RATE)})", "{{state}}")],
            unit="suffix: /s",
            minimum=0,
            colours=STATE_COLOURS,
            is_main=True,
        ),
        Panel(
            "Jobs in flight against the step limit",
            "All coordinators together. The limit is halved at a coordinator whose services say that they are full, "
            "and grows back as steps succeed: a limit that stays low means too few replicas behind it.",
            Kind.LINES,
            [
                Query(f"sum ({coordinators('gsi_jobs_in_flight')})", "jobs in flight"),
                Query(f"sum ({coordinators('gsi_step_limit')})", "step limit"),
                Query(f"min ({coordinators('gsi_step_limit')})", "lowest limit of a coordinator"),
            ],
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Time of a run",
            "From taking a job to the end of that run; waiting in the queue is not in it.",
            Kind.LINES,
            [
                Query(quantile(share, coordinators("gsi_job_seconds_bucket", "", RATE)), name)
                for share, name in ((0.95, "95 % are below"), (0.5, "half are below"))
            ],
            unit="s",
            minimum=0,
        ),
        Panel(
            "Services as the coordinators see them",
            "1 where every coordinator last heard SERVING, 0 where at least one did not: its jobs wait for the "
            "service.",
            Kind.LINES,
            [Query(f"min by (role) ({coordinators('gsi_service_serving')})", "{{role}}")],
            minimum=0,
            maximum=1,
            decimals=0,
        ),
    ],
)

TROUBLE = Row(
    "What goes wrong",
    [
        Panel(
            "Redeliveries",
            "Jobs taken over from a coordinator that was gone. A few at each roll-out or eviction are normal.",
            Kind.STACK,
            [Query(_grown("gsi_redeliveries_total", "queue"), "taken over {{queue}}")],
            unit="suffix: jobs",
            width=8,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Leases lost",
            "Runs that were cancelled because another coordinator had the job: one was paused, starved of processor "
            "time or cut off from Redis. Work was done twice; nothing wrong was written.",
            Kind.STACK,
            [Query(_grown("gsi_leases_lost_total", "queue"), "lost {{queue}}")],
            unit="suffix: runs",
            width=8,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Put off and given up",
            "Jobs that failed and wait for another attempt, and jobs whose last attempt failed. Jobs that are dead "
            "because their coordinators were lost each time are only in Dead letters.",
            Kind.STACK,
            [
                Query(_grown("gsi_retries_total", "queue"), "put off {{queue}}"),
                Query(_grown("gsi_dead_letters_total", "queue"), "given up {{queue}}"),
            ],
            unit="suffix: jobs",
            width=8,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Submissions refused",
            "Submissions that a full queue (gsi queue limit) has refused since its server began.",
            Kind.LINES,
            [Query(by_queue("gsi_submissions_refused"), "refused {{queue}}")],
            unit="suffix: jobs",
            width=8,
            minimum=0,
        ),
        Panel(
            "Dead letters in the time range",
            "Jobs that were given up after their last attempt in the time range, by queue.",
            Kind.BARS,
            [Query(_named(_grown("gsi_dead_letters_total", "queue", RANGE)), "queue")],
            width=8,
            decimals=0,
            minimum=0,
        ),
        Panel(
            "Redeliveries in the time range",
            "Jobs taken over in the time range, by queue.",
            Kind.BARS,
            [Query(_named(_grown("gsi_redeliveries_total", "queue", RANGE)), "queue")],
            width=8,
            decimals=0,
            minimum=0,
        ),
    ],
)

QUEUE = Board(
    "gsi-queue",
    "GSI / Queue",
    "What waits, who works on it, and what goes wrong.",
    [AT_A_GLANCE, BACKLOG, WORK, TROUBLE, where_to_look("When an alert fires; Dead jobs; Commands")],
)
