"""The life of a job: the states, and the table of legal transitions. A move that is not in the table changes nothing.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | EXPIRED | DEAD

A job that was pushed with a bare XADD has no record until a coordinator takes it: that is None here. RUNNING -> RUNNING
is a redelivery: the coordinator that ran the job is gone and another goes on after its last step. RUNNING -> QUEUED
is a job that is put off after a failure, to be tried again. DEAD -> QUEUED is a person who has it tried again.
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
    DEAD = "DEAD"  # tried too often; it may be queued again by hand

    @property
    def is_finished(self) -> bool:
        return self not in {JobState.QUEUED, JobState.RUNNING}


TRANSITIONS: Mapping[JobState | None, frozenset[JobState]] = {
    None: frozenset({JobState.QUEUED, JobState.RUNNING}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset(
        {
            JobState.QUEUED,
            JobState.RUNNING,
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.EXPIRED,
            JobState.DEAD,
        }
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
    JobState.DEAD: frozenset({JobState.QUEUED}),
}


def states_before(state: JobState) -> frozenset[JobState | None]:
    """Return the states from which ``state`` can be reached in one move."""
    return frozenset(before for before, after in TRANSITIONS.items() if state in after)
