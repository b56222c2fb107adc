"""Every key of a queue, with its type and lifetime.

All keys of one queue share the hash tag ``{queue}``, so that a script over several keys works on Redis Cluster.

| key                         | type   | lives                             | holds |
|-----------------------------|--------|-----------------------------------|-------|
| gsi:{q}:jobs:high           | stream | an entry: until its job ends      | field ``job``: the payload as JSON |
| gsi:{q}:jobs:normal         | stream | an entry: until its job ends      | field ``job``: the payload as JSON |
| gsi:{q}:jobs:low            | stream | an entry: until its job ends      | field ``job``: the payload as JSON |
| gsi:{q}:job:<id>            | hash   | its lifetime, from the job's end  | the job's record: the source of truth |
| gsi:{q}:job:<id>:steps      | stream | its lifetime, from the job's end  | kept steps: checkpoint and live feed |
| gsi:{q}:delayed             | zset   | a member: until its delay is over | ids of jobs to be tried again, by when |
| gsi:{q}:tenants             | hash   | a field: while it is above 0      | by tenant, how many jobs are in flight |
| gsi:{q}:parked              | set    | a member: while it has parked jobs | tenants with parked jobs |
| gsi:{q}:parked:<tenant>     | list   | an id: until its tenant has room  | jobs beyond the tenant's limit in flight |
| gsi:{q}:dead                | stream | the newest 100,000 or so          | ids of dead jobs, reason and last error |
| gsi:{q}:config              | hash   | for ever                          | settings, and counters of the queue |
| gsi:{q}:idempotency:<key>   | string | a day                             | the id of the first job with this key |
| gsi:{q}:results             | stream | the newest 100,000 or so          | ids of finished jobs, with their state |
| gsi:{q}:wake:<id>           | stream | a minute, from its last use       | wakes the process that follows jobs by it |
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import NewType

from gsi.errors import InvalidRequestError

GROUP = "coordinators"  # the consumer group on the jobs streams
JOB_FIELD = "job"
QUEUE_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"  # a brace would break the hash tag
MAX_RESULTS = 100_000  # the results stream wakes its readers; the records are the store
MAX_DEAD = 100_000
MAX_KEPT_PAYLOAD_BYTES = 16_384  # a longer payload goes when its job ends
MAX_DELAY_MS = 300_000  # until a job's next attempt
DEFAULT_TENANT = "default"

Key = NewType("Key", str)


class Priority(StrEnum):
    """The lanes of a queue, in the order in which they are read."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue. Raises InvalidRequestError for a name that a queue cannot have."""

    queue: str

    def __post_init__(self) -> None:
        if not re.fullmatch(QUEUE_PATTERN, self.queue):
            raise InvalidRequestError(
                f"queue: {self.queue!r} is not allowed; allowed: text that matches {QUEUE_PATTERN}"
            )

    @property
    def prefix(self) -> str:
        """Return what every key of the queue begins with."""
        return f"gsi:{{{self.queue}}}:"

    @property
    def jobs(self) -> Key:
        """Return the lane of jobs whose payload names no priority."""
        return self.lane(Priority.NORMAL)

    @property
    def lanes(self) -> list[Key]:
        return [self.lane(priority) for priority in Priority]

    def lane(self, priority: Priority) -> Key:
        return self._key(f"jobs:{priority}")

    def lane_of(self, noted: bytes | None) -> Key:
        """Return the lane that a record notes; without a note, that of jobs whose payload names no priority."""
        return Key(noted.decode()) if noted else self.jobs

    @staticmethod
    def priority_of(lane: str) -> Priority:
        """Return the priority whose jobs a lane holds."""
        return Priority(lane.rpartition(":")[2])

    @property
    def config(self) -> Key:
        return self._key("config")

    def idempotency(self, tenant: str, key: str) -> Key:
        """Return where the first job of an idempotency key is noted. Hashed: the key may be any text."""
        digest = blake2b(f"{tenant}/{key}".encode(), digest_size=16).hexdigest()
        return self._key(f"idempotency:{digest}")

    @property
    def tenants(self) -> Key:
        return self._key("tenants")

    @property
    def parked_tenants(self) -> Key:
        return self._key("parked")

    def parked(self, tenant: str) -> Key:
        return self._key(f"parked:{tenant}")

    @property
    def delayed(self) -> Key:
        return self._key("delayed")

    @property
    def dead(self) -> Key:
        return self._key("dead")

    @property
    def results(self) -> Key:
        return self._key("results")

    def wake(self, feed_id: str) -> Key:
        return self._key(f"wake:{feed_id}")

    def record(self, job_id: str) -> Key:
        return self._key(f"job:{job_id}")

    def steps(self, job_id: str) -> Key:
        return self._key(f"job:{job_id}:steps")

    def _key(self, name: str) -> Key:
        return Key(self.prefix + name)
