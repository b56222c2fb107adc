"""What a queue holds, as series: every coordinator of the queue reports them, and so does an exporter."""

from gsi.jobs.reader import QueueConfig, SetAside
from gsi.jobs.stream import Ages, Backlog
from gsi.runtime.series import Series

series = Series()
STREAM_LAG = series.gauge("gsi_stream_lag", "Entries that no coordinator has taken.", "jobs")
STREAM_PENDING = series.gauge(
    "gsi_stream_pending", "Entries that a coordinator has taken and not yet acknowledged.", "jobs"
)
OLDEST_WAITING = series.gauge(
    "gsi_oldest_waiting_seconds",
    "Age of the oldest entry that no coordinator has taken; 0 without such an entry.",
    "seconds",
)
LEASE_AGE = series.gauge(
    "gsi_lease_age_seconds",
    "Longest time since a lease was renewed, over all entries taken (the oldest 1000 of each lane); 0 without such an"
    " entry. A coordinator renews a lease after a quarter of `GSI_COORDINATOR_LEASE_SECONDS`; a lease ends after the "
    "whole.",
    "seconds",
)
DEAD_JOBS = series.gauge(
    "gsi_dead_jobs", "Dead letters: jobs that are DEAD and were neither retried nor purged.", "jobs"
)
DELAYED_JOBS = series.gauge("gsi_delayed_jobs", "Jobs that failed and wait for their next attempt.", "jobs")
PARKED_JOBS = series.gauge(
    "gsi_parked_jobs",
    "Jobs that wait because their tenant has `GSI_COORDINATOR_MAX_JOBS_PER_TENANT` jobs in flight.",
    "jobs",
)
QUEUE_PAUSED = series.gauge(
    "gsi_queue_paused",
    "1 while the queue is paused (`gsi queue pause`) and no coordinator takes new jobs; else 0.",
    "0 or 1",
)
SUBMISSIONS_REFUSED = series.gauge(
    "gsi_submissions_refused",
    "Submissions of all clients that the queue has refused because it was full (`gsi queue limit`).",
    "submissions",
)


def observe_queue(backlog: Backlog, ages: Ages, set_aside: SetAside, config: QueueConfig) -> None:
    """Show what the queue holds, and whether it is paused."""
    STREAM_LAG.set(backlog.lag)
    STREAM_PENDING.set(backlog.pending)
    OLDEST_WAITING.set(ages.oldest_waiting_seconds)
    LEASE_AGE.set(ages.lease_seconds)
    DEAD_JOBS.set(set_aside.dead)
    DELAYED_JOBS.set(set_aside.delayed)
    PARKED_JOBS.set(set_aside.parked)
    QUEUE_PAUSED.set(config.is_paused)
    SUBMISSIONS_REFUSED.set(config.num_refused)
