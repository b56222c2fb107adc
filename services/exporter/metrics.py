"""What only an exporter measures: a queue's coordinators, seen from outside, its tenants, and the memory of Redis."""

from collections import Counter
from collections.abc import Mapping

from gsi.jobs.observer import Memory
from gsi.jobs.tenant_jobs import MAX_WAITING, PLACES
from gsi.jobs.tenant_label import TENANT_VALUES, keep_largest
from gsi.runtime.series import Series

series = Series()
COORDINATORS = series.gauge(
    "gsi_queue_coordinators",
    "Coordinators that have asked for entries, or renewed a lease, within the last 20 seconds. The exporter alone "
    "reports it, also when it is 0.",
    "coordinators",
)
REDIS_MEMORY_USED = series.gauge(
    "gsi_redis_memory_used_bytes",
    "Memory that the Redis server uses, `used_memory` of its `INFO`; 0 if the exporter's user may not ask.",
    "bytes",
)
REDIS_MEMORY_MAX = series.gauge(
    "gsi_redis_memory_max_bytes",
    "`maxmemory` of the Redis server, above which it refuses to write; 0: it has no limit of its own, or the "
    "exporter's user may not ask.",
    "bytes",
)
TENANT_JOBS = series.gauge(
    "gsi_tenant_jobs",
    f"Jobs of a tenant. waiting: no coordinator has taken them, among the {MAX_WAITING} of each lane that have waited "
    "longest. in_flight: they are taken and not finished. parked: the tenant has enough jobs in flight. A tenant "
    "without jobs is left out; beyond the tenants with the most jobs, the others share one value.",
    "jobs",
    {"tenant": TENANT_VALUES, "place": PLACES},
)
_shown: set[str] = set()


def observe_memory(memory: Memory | None) -> None:
    """Show the memory of the Redis server."""
    REDIS_MEMORY_USED.set(memory.used if memory else 0)
    REDIS_MEMORY_MAX.set(memory.most if memory else 0)


def observe_tenants(counts: Mapping[str, Counter[str]]) -> None:
    """Show the jobs of each tenant, and no longer those of a tenant that has none."""
    kept = keep_largest(counts)
    for tenant, found in kept.items():
        for place in PLACES:
            TENANT_JOBS.labels(tenant, place).set(found[place])
    for tenant in _shown - kept.keys():
        for place in PLACES:
            TENANT_JOBS.remove(tenant, place)
    _shown.clear()
    _shown.update(kept)
