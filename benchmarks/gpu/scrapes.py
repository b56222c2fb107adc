"""What ``/metrics`` says while the system works: the GPUs by NVML, and how much of the prompts came from the caches."""

import asyncio
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from gsi.local.stack import ROLES

SCRAPE_SECONDS = 0.25
QUERIES, HITS = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"
GPU_SERIES = {
    "gsi_gpu_utilization_ratio": "highest_utilization",
    "gsi_gpu_memory_bytes": "highest_memory_bytes",
    "gsi_gpu_memory_total_bytes": "memory_total_bytes",
}

Samples = list[tuple[str, Mapping[str, str], float]]


async def scrape(address: str) -> Samples:
    """Return the samples of a process: name, labels and value."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(read)
    return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]


async def read_caches(addresses: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Return, by role, how many tokens a service has looked up in its prefix cache, and how many it has found there."""
    counts = {}
    for role in ROLES:
        samples = await scrape(addresses[role])
        looked_up, found = (sum(value for own, _, value in samples if own == name) for name in (QUERIES, HITS))
        counts[role] = (looked_up, found)
    return counts


def prefix_hit_rates(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]
) -> dict[str, float | None]:
    """Return, by role, the share of the tokens between two readings that came from the cache."""
    rates: dict[str, float | None] = {}
    for role, (looked_up, found) in after.items():
        queries, hits = looked_up - before[role][0], found - before[role][1]
        rates[role] = hits / queries if queries else None
    return rates


class GpuWatch:
    """Scrapes one process while the block runs; ``seen`` has the highest values of each GPU, by its index."""

    def __init__(self, address: str) -> None:
        self.seen: dict[str, dict[str, float]] = {}
        self._address = address
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        while True:
            for name, labels, value in await scrape(self._address):
                if name in GPU_SERIES:
                    own = self.seen.setdefault(labels["gpu"], {})
                    own[GPU_SERIES[name]] = max(value, own.get(GPU_SERIES[name], 0.0))
            await asyncio.sleep(SCRAPE_SECONDS)
