"""The life of a job: its states, and the table of transitions. A move that is not in the table changes nothing.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | EXPIRED | DEAD

None before a transition is a job without a record: a bare XADD pushed it, and no coordinator has taken it yet.
None after a transition is a job that is deleted. RUNNING -> RUNNING is a redelivery: the job's coordinator is gone, and
another coordinator continues after the last kept step. RUNNING -> QUEUED is a job that failed and waits for its next
attempt. QUEUED -> QUEUED is a job that is parked, because its tenant has enough jobs in flight, or is pushed again.
DEAD -> QUEUED is a dead job that a person retries.
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"  # its error says why: which field, and what is allowed
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    DEAD = "DEAD"  # tried too often; a person may have it tried again

    @property
    def is_finished(self) -> bool:
        return self not in {JobState.QUEUED, JobState.RUNNING}


# By script (a file of gsi/jobs/scripts) and the job's state before, the states that the script may move the job to.
TRANSITIONS: Mapping[str, Mapping[JobState | None, tuple[JobState | None, ...]]] = {
    "submit": {None: (JobState.QUEUED,)},
    "take": {
        None: (JobState.RUNNING, JobState.QUEUED),
        JobState.QUEUED: (JobState.RUNNING, JobState.QUEUED, JobState.DEAD),
        JobState.RUNNING: (JobState.RUNNING, JobState.CANCELLED, JobState.DEAD),
    },
    "retry": {JobState.RUNNING: (JobState.QUEUED, JobState.CANCELLED, JobState.DEAD)},
    "promote": {JobState.QUEUED: (JobState.QUEUED,)},
    "unpark": {JobState.QUEUED: (JobState.QUEUED,)},
    "commit": {
        JobState.RUNNING: (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED),
    },
    "cancel": {None: (JobState.CANCELLED,), JobState.QUEUED: (JobState.CANCELLED,)},
    "revive": {JobState.DEAD: (JobState.QUEUED,)},
    "purge": {JobState.DEAD: (None,)},
    "check_job": {
        JobState.QUEUED: (JobState.QUEUED, JobState.FAILED),
        JobState.RUNNING: (JobState.QUEUED, JobState.FAILED),
    },
    "forget": {state: (None,) for state in JobState if state.is_finished},
}
