"""The rules that hold for all jobs of a queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one queue. Each coordinator gets them from its settings."""

    max_attempts: int = 5
    max_jobs_per_tenant: int = 0  # in flight, over all coordinators; 0: no limit
    result_seconds: float = 7 * 86_400  # how long a finished job can be read
    dead_seconds: float = 30 * 86_400  # how long a dead job can be read
    newer_seconds: float = 300  # how long a job waits for a coordinator of a newer release

    @property
    def result_ms(self) -> int:
        return int(self.result_seconds * 1000)

    @property
    def newer_ms(self) -> int:
        return int(self.newer_seconds * 1000)

    @property
    def dead_ms(self) -> int:
        return int(self.dead_seconds * 1000)
