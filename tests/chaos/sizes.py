"""How much of everything: the full form, and the short one of ``make test``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of jobs, faults and payloads."""

    kill_jobs: int
    max_kills: int  # and stops
    service_turn: int  # of so many kills, one is a service's
    kill_pause_seconds: float  # at most
    stop_jobs: int
    redis_jobs: int
    redis_kills: int
    connection_faults: int  # of 9: three faults on three services, in a random order
    connection_jobs: int  # for each fault
    bad_payloads: int
    good_payloads: int
    huge_bytes: int
    schedules: int  # of faults on single commands
    schedule_jobs: int  # in each
    poison_jobs: int  # the others, that shall be unharmed
    poison_attempts: int
    restart_seconds: float  # until an engine that has crashed is started again
    row_seconds: float  # the most that a row may take
    total_seconds: float  # and all of them; what comes later fails

    @property
    def num_references(self) -> int:
        """How many jobs must have run undisturbed, to compare with."""
        return max(
            *(self.kill_jobs, self.stop_jobs, self.redis_jobs, self.good_payloads, self.poison_jobs),
            self.schedules * self.schedule_jobs,
        )


FULL = Size(
    kill_jobs=500,
    max_kills=200,
    service_turn=20,
    kill_pause_seconds=1.0,
    stop_jobs=24,
    redis_jobs=60,
    redis_kills=5,
    connection_faults=9,
    connection_jobs=6,
    bad_payloads=10_000,
    good_payloads=100,
    huge_bytes=50_000_000,
    schedules=6,
    schedule_jobs=40,
    poison_jobs=12,
    poison_attempts=5,
    restart_seconds=3.0,
    row_seconds=1500.0,
    total_seconds=2400.0,
)
SHORT = Size(
    kill_jobs=24,
    max_kills=3,
    service_turn=2,
    kill_pause_seconds=1.0,
    stop_jobs=12,
    redis_jobs=12,
    redis_kills=1,
    connection_faults=3,
    connection_jobs=3,
    bad_payloads=300,
    good_payloads=12,
    huge_bytes=5_000_000,
    schedules=1,
    schedule_jobs=16,
    poison_jobs=6,
    poison_attempts=3,
    restart_seconds=0.0,
    row_seconds=120.0,
    total_seconds=600.0,
)
