"""Every key of a queue, with its type and lifetime.

All keys of one queue share the hash tag ``{queue}``, so that a script over several of them works on Redis Cluster.

| key                         | type   | lives                         | holds |
|-----------------------------|--------|-------------------------------|-------|
| gsi:{q}:jobs:high           | stream | entry: until its job is done  | field ``job``: the payload, JSON |
| gsi:{q}:jobs:normal         | stream | as above                      | as above |
| gsi:{q}:jobs:low            | stream | as above                      | as above |
| gsi:{q}:job:<id>            | hash   | its lifetime after its end    | the job's record: the source of truth |
| gsi:{q}:job:<id>:steps      | stream | as the record                 | a step an entry: checkpoint and live feed |
| gsi:{q}:delayed             | zset   | a member: until it is due     | ids of jobs to be tried again, by when |
| gsi:{q}:tenants             | hash   | a field: while it has jobs    | by tenant, how many jobs are in flight |
| gsi:{q}:parked              | set    | a member: while it has any    | tenants with parked jobs |
| gsi:{q}:parked:<tenant>     | list   | an id: until it is its turn   | jobs beyond their tenant's limit in flight |
| gsi:{q}:dead                | stream | the newest 100,000 or so      | ids of dead jobs, with reason and last error |
| gsi:{q}:config              | hash   | kept                          | what operators set, and ``refused`` |
| gsi:{q}:idempotency:<key>   | string | a day                         | the id of the first job with this key |
| gsi:{q}:results             | stream | the newest 100,000 or so      | ids of finished jobs, with their state |
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from gsi.errors import InvalidRequestError

GROUP = "coordinators"  # the consumer group on the jobs stream
JOB_FIELD = "job"
QUEUE_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"  # a brace would break the hash tag
MAX_RESULTS = 100_000  # a feed to wake on, not a store: the records are that
MAX_DEAD = 100_000
DEFAULT_TENANT = "default"


class Priority(StrEnum):
    """The lanes of a queue, the first to be read first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue."""

    queue: str

    def __post_init__(self) -> None:
        if not re.fullmatch(QUEUE_PATTERN, self.queue):
            raise InvalidRequestError(
                f"queue: {self.queue!r} is not allowed; allowed: text that matches {QUEUE_PATTERN}"
            )

    @property
    def jobs(self) -> str:
        """Return the lane of jobs that say nothing of priority."""
        return self.lane(Priority.NORMAL)

    @property
    def lanes(self) -> list[str]:
        return [self.lane(priority) for priority in Priority]

    def lane(self, priority: Priority) -> str:
        return f"gsi:{{{self.queue}}}:jobs:{priority}"

    @property
    def config(self) -> str:
        return f"gsi:{{{self.queue}}}:config"

    def idempotency(self, tenant: str, key: str) -> str:
        """Return where the first job of an idempotency key is noted. Hashed: the key may be any text."""
        digest = blake2b(f"{tenant}/{key}".encode(), digest_size=16).hexdigest()
        return f"gsi:{{{self.queue}}}:idempotency:{digest}"

    @property
    def tenants(self) -> str:
        return f"gsi:{{{self.queue}}}:tenants"

    @property
    def parked_tenants(self) -> str:
        return f"gsi:{{{self.queue}}}:parked"

    def parked(self, tenant: str) -> str:
        return f"{self.parked_tenants}:{tenant}"

    @property
    def delayed(self) -> str:
        return f"gsi:{{{self.queue}}}:delayed"

    @property
    def dead(self) -> str:
        return f"gsi:{{{self.queue}}}:dead"

    @property
    def results(self) -> str:
        return f"gsi:{{{self.queue}}}:results"

    def record(self, job_id: str) -> str:
        return f"gsi:{{{self.queue}}}:job:{job_id}"

    def steps(self, job_id: str) -> str:
        return f"{self.record(job_id)}:steps"
