"""*Queue*: which jobs wait, how they run, and what goes wrong.

Every coordinator reports the same gauges of the queue: take their maximum for each queue, never their sum.
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
    make_documents_row,
    make_number,
    make_reached_number,
    make_redis_number,
)
from monitoring.promql import RANGE, RATE, coordinators, exporters, quantile, ratio

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
    """Return a gauge of the queue itself, once per queue."""
    return f"max by ({QUEUES}) ({coordinators(name)})"


def _over_queues(name: str, function: str = "sum") -> str:
    return f"{function} ({by_queue(name)})"


def _increase(name: str, by: str, window: str = RATE) -> str:
    """Return a counter's increase in a window, over all coordinators."""
    selected = coordinators(name, "", window).replace("rate(", "increase(", 1)
    return f"sum by ({by}) ({selected})"


def _with_queue_label(by_queue: str) -> str:
    """Return an expression whose series have the bars' label ``queue`` even if scraping does not add it."""
    return f'label_replace({by_queue}, "queue", "all", "queue", "")'


QUEUE_NUMBERS = Row(
    "At a glance",
    [
        make_number(
            "Waiting",
            "Jobs that no coordinator has taken: the lag of the queue's streams. It does not include parked and "
            "delayed jobs.",
            [Query(_over_queues("gsi_stream_lag"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
            page="/queue",
        ),
        make_number(
            "Oldest waiting",
            "Age of the oldest job that no coordinator has taken; 0 if no job waits. Users notice this number.",
            [Query(_over_queues("gsi_oldest_waiting_seconds", "max"))],
            unit="s",
            width=3,
            decimals=0,
            steps=((0, GREEN), (300, ORANGE), (3600, RED)),
            page="/queue",
            alert="GsiOldestJobTooOld",
        ),
        make_number(
            "In flight",
            "Jobs that coordinators have taken and not finished: the pending entries of the streams.",
            [Query(_over_queues("gsi_stream_pending"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
            page="/jobs?state=RUNNING",
        ),
        make_number(
            "Dead letters",
            "Dead jobs that nobody has retried or purged. gsi dead list names them.",
            [Query(_over_queues("gsi_dead_jobs"))],
            unit="suffix: jobs",
            width=3,
            decimals=0,
            steps=((0, GREEN), (1, RED)),
            page="/jobs?state=DEAD",
            alert="GsiDeadJobs",
        ),
        make_number(
            "Succeeded",
            "Jobs per minute that end with an answer, over the time range.",
            [Query("60 * sum (" + coordinators("gsi_jobs_total", 'state="SUCCEEDED"', RANGE) + ")")],
            unit="suffix: /min",
            width=3,
            decimals=1,
        ),
        make_number(
            "Queue",
            "Shows paused if a queue is paused (gsi queue pause): coordinators take no job, and jobs in flight "
            "continue.",
            [Query(_over_queues("gsi_queue_paused", "max"))],
            width=3,
            steps=((0, GREEN), (1, ORANGE)),
            words={0: "running", 1: "paused"},
            page="/queue",
            alert="GsiQueuePaused",
        ),
        make_redis_number(
            "Shows away while a coordinator cannot reach Redis, or while Redis refuses to work, for example because "
            "its disk or memory is full.",
            f"min ({coordinators('gsi_redis_reachable')})",
        ),
        make_reached_number("Coordinators", f"count ({coordinators('gsi_jobs_in_flight')})", "GsiCoordinatorsGone"),
    ],
)

BACKLOG = Row(
    "What waits",
    [
        Panel(
            "Waiting and in flight",
            "Jobs that no coordinator has taken, and jobs that are taken and not finished, by queue. Autoscaling "
            "follows both.",
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
            "It grows by one second per second while no job is taken: the queue is paused, has no coordinator, or all "
            "coordinators are busy.",
            Kind.LINES,
            [Query(by_queue("gsi_oldest_waiting_seconds"), "oldest {{queue}}")],
            unit="s",
            minimum=0,
            is_main=True,
            alert="GsiOldestJobTooOld",
        ),
        Panel(
            "Age of leases",
            "Longest time since the lease of a job in flight was renewed. Coordinators renew a lease after a quarter "
            "of GSI_COORDINATOR_LEASE_SECONDS. After the whole of it, another coordinator takes over the job.",
            Kind.LINES,
            [Query(by_queue("gsi_lease_age_seconds"), "longest {{queue}}")],
            unit="s",
            minimum=0,
            is_main=True,
            alert="GsiJobAbandoned",
        ),
        Panel(
            "Set aside",
            "Delayed: the job failed and waits for its next attempt. Parked: the tenant has enough jobs in flight. "
            "Dead: the job has used up its attempts.",
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
            "Runs per second, by the state in which they leave their job. QUEUED: the run failed, and the job waits "
            "for another attempt.",
            Kind.STACK,
            [Query(f"sum by (state) ({coordinators('gsi_jobs_total', '', RATE)})", "{{state}}")],
            unit="suffix: /s",
            minimum=0,
            colours=STATE_COLOURS,
            is_main=True,
            page="/jobs?state=${__field.labels.state}",
        ),
        Panel(
            "Jobs in flight against the step limit",
            "Sum over all coordinators. A coordinator halves its limit when a service is full, and raises it again as "
            "steps succeed. If the limit stays low, the services need more replicas.",
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
            "Time from taking a job to the end of that run, without the wait in the queue.",
            Kind.LINES,
            [
                Query(quantile(share, coordinators("gsi_job_seconds_bucket", "", RATE)), name)
                for share, name in ((0.95, "95 % are below"), (0.5, "half are below"))
            ],
            unit="s",
            minimum=0,
            page="/jobs?state=SUCCEEDED",
        ),
        Panel(
            "Services as the coordinators see them",
            "1 if every coordinator last heard SERVING from the service. 0 if a coordinator did not: its jobs wait for "
            "the service.",
            Kind.LINES,
            [Query(f"min by (role) ({coordinators('gsi_service_serving')})", "{{role}}")],
            minimum=0,
            maximum=1,
            decimals=0,
            alert="GsiRoleNotReady",
        ),
    ],
)

TROUBLE = Row(
    "What goes wrong",
    [
        Panel(
            "Redeliveries",
            "Jobs taken over from a lost coordinator. A few at each roll-out or eviction are normal.",
            Kind.STACK,
            [Query(_increase("gsi_redeliveries_total", "queue"), "taken over {{queue}}")],
            unit="suffix: jobs",
            width=8,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "Leases lost",
            "Runs that were cancelled because another coordinator had taken over the job: their coordinator was "
            "paused, short of processor time or cut off from Redis. Work was done twice, but no wrong result was "
            "written.",
            Kind.STACK,
            [Query(_increase("gsi_leases_lost_total", "queue"), "lost {{queue}}")],
            unit="suffix: runs",
            width=8,
            minimum=0,
            is_main=True,
            alert="GsiLeasesLost",
        ),
        Panel(
            "Put off and given up",
            "Jobs that failed and wait for another attempt, and jobs whose last attempt failed. A job that is dead "
            "because each attempt lost its coordinator is only in Dead letters.",
            Kind.STACK,
            [
                Query(_increase("gsi_retries_total", "queue"), "put off {{queue}}"),
                Query(_increase("gsi_dead_letters_total", "queue"), "given up {{queue}}"),
            ],
            unit="suffix: jobs",
            width=8,
            minimum=0,
            is_main=True,
            page="/jobs?state=DEAD",
            alert="GsiManyJobsDie",
        ),
        Panel(
            "Submissions refused",
            "Submissions that a full queue (gsi queue limit) has refused so far.",
            Kind.LINES,
            [Query(by_queue("gsi_submissions_refused"), "refused {{queue}}")],
            unit="suffix: jobs",
            width=8,
            minimum=0,
        ),
        Panel(
            "Dead letters in the time range",
            "Jobs whose last attempt failed in the time range, by queue.",
            Kind.BARS,
            [Query(_with_queue_label(_increase("gsi_dead_letters_total", "queue", RANGE)), "queue")],
            width=8,
            decimals=0,
            minimum=0,
        ),
        Panel(
            "Redeliveries in the time range",
            "Jobs taken over in the time range, by queue.",
            Kind.BARS,
            [Query(_with_queue_label(_increase("gsi_redeliveries_total", "queue", RANGE)), "queue")],
            width=8,
            decimals=0,
            minimum=0,
        ),
    ],
)

MEMORY_USED = f"max by (namespace, release) ({exporters('gsi_redis_memory_used_bytes')})"
MEMORY_MAX = f"max by (namespace, release) ({exporters('gsi_redis_memory_max_bytes')})"

REDIS = Row(
    "Redis",
    [
        Panel(
            "Memory of Redis",
            "What the server uses, for all queues on it, and its maxmemory. At the limit it refuses submissions and "
            "steps, and coordinators wait. Nothing is shown as limit while Redis has none of its own.",
            Kind.LINES,
            [Query(f"{MEMORY_USED}", "used {{release}}"), Query(f"{MEMORY_MAX} > 0", "limit {{release}}")],
            unit="bytes",
            minimum=0,
            is_main=True,
            alert="GsiRedisMemoryHigh",
        ),
        Panel(
            "Memory of Redis in use",
            "Share of maxmemory that is used. It falls as results expire, or when jobs' keys are deleted.",
            Kind.LINES,
            [Query(ratio(MEMORY_USED, MEMORY_MAX), "used {{release}}")],
            unit="percentunit",
            minimum=0,
            maximum=1,
            is_main=True,
            alert="GsiRedisMemoryHigh",
        ),
    ],
)

QUEUE_BOARD = Board(
    "gsi-queue",
    "GSI / Queue",
    "Which jobs wait, how they run, and what goes wrong.",
    [QUEUE_NUMBERS, BACKLOG, WORK, TROUBLE, REDIS, make_documents_row("When an alert fires; Dead jobs; Commands")],
)
