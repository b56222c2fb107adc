"""The label ``tenant`` of a metric: tenants are named by those who submit jobs, and a label has few values."""

from collections import Counter
from collections.abc import Mapping

MAX_TENANTS = 50
OTHER = "other"
TENANT_VALUES = f"names of tenants, at most {MAX_TENANTS} of a process, and {OTHER}"


class TenantLabel:
    """Names tenants in counters, which only grow: the first that come have their names, all others share one."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def name(self, tenant: str) -> str:
        """Return the label's value for a tenant."""
        if tenant in self._named or len(self._named) < MAX_TENANTS:
            self._named.add(tenant)
            return tenant
        return OTHER


def keep_largest(counts: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Return the counts of the tenants with the most; all others' are added up under ``OTHER``. For gauges."""
    ranked = sorted(counts, key=lambda tenant: (-counts[tenant].total(), tenant))
    kept = {tenant: counts[tenant] for tenant in ranked[:MAX_TENANTS]}
    if rest := ranked[MAX_TENANTS:]:
        kept[OTHER] = sum((counts[tenant] for tenant in rest), kept.get(OTHER, Counter()))
    return kept
