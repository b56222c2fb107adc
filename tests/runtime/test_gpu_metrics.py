"""The GPUs' series, with NVML played by a stand-in: this runs where there is no GPU."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry

from gsi.runtime.metrics import GpuCollector

GIB = 2**30


def utilization(gpu: int) -> Any:
    """Answer for the first GPU; the second is divided by MIG, and then has no utilization."""
    if gpu == 1:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return SimpleNamespace(gpu=75)


def test_each_gpu_is_told_apart_by_its_uuid_and_read_at_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes see the same GPU; a GPU without utilization still has its memory."""
    memory = SimpleNamespace(used=2 * GIB, total=80 * GIB)
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}{gpu}",
        "nvmlDeviceGetMemoryInfo": lambda gpu: memory,
        "nvmlDeviceGetUtilizationRates": utilization,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    registry = CollectorRegistry()
    registry.register(GpuCollector())
    labels = [{"gpu": str(index), "uuid": f"GPU-{index}{index}"} for index in range(2)]

    def values(name: str) -> list[float | None]:
        return [registry.get_sample_value(name, of) for of in labels]

    assert values("gsi_gpu_memory_bytes") == [2 * GIB, 2 * GIB]
    assert values("gsi_gpu_memory_total_bytes") == [80 * GIB, 80 * GIB]
    assert values("gsi_gpu_utilization_ratio") == [0.75, None]
    memory.used = 3 * GIB
    assert values("gsi_gpu_memory_bytes") == [3 * GIB, 3 * GIB]
