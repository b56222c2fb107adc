"""The NVIDIA GPUs of this machine, by NVML: asking it starts no CUDA in this process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsi.errors import MisconfiguredError
from gsi.runtime.installation import how_to_install

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class InstalledGpu:
    """A GPU of this machine. ``index`` is NVML's, which `nvidia-smi` shows. ``memory``, all and ``free``, in bytes."""

    index: int
    uuid: str
    name: str
    memory: int
    free: int
    compute_capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.index} ({self.name}, {self.memory / 1e9:.0f} GB)"


def list_gpus(environment: Mapping[str, str] = os.environ) -> tuple[InstalledGpu, ...]:
    """Return the GPUs that this process may use. Raises MisconfiguredError, with NVML's reason, if there is none.

    NVML lists every GPU of the machine; ``CUDA_VISIBLE_DEVICES``, which a batch system sets, may leave some out.
    """
    try:
        import pynvml
    except ModuleNotFoundError:
        raise MisconfiguredError(f"nvidia-ml-py is not installed: {how_to_install('service')}") from None
    try:
        found = _ask_nvml(pynvml)
    except pynvml.NVMLError as error:
        raise MisconfiguredError(f"no GPU: NVML, which comes with NVIDIA's driver, says: {error}") from None
    visible = environment.get(VISIBLE)
    allowed = tuple(gpu for gpu in found if visible is None or _is_visible(gpu, visible))
    if not allowed:
        raise MisconfiguredError(
            f"no GPU: {VISIBLE} is {visible!r}, which names none of {_join(found)}"
            if found
            else "no GPU: NVML lists none on this machine"
        )
    return allowed


def find_gpu(gpus: tuple[InstalledGpu, ...], index: int) -> InstalledGpu:
    """Return the GPU of an index. Raises MisconfiguredError that lists the GPUs there are."""
    for gpu in gpus:
        if gpu.index == index:
            return gpu
    raise MisconfiguredError(f"--gpus: there is no GPU {index}; there are: {_join(gpus)}")


def _ask_nvml(pynvml: Any) -> tuple[InstalledGpu, ...]:
    pynvml.nvmlInit()
    try:
        return tuple(_describe(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _describe(pynvml: Any, index: int) -> InstalledGpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return InstalledGpu(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        memory=memory.total,
        free=memory.free,
        compute_capability=(major, minor),
    )


def _is_visible(gpu: InstalledGpu, visible: str) -> bool:
    """Return whether a list of indices or of the beginnings of UUIDs names a GPU."""
    entries = [entry.strip() for entry in visible.split(",")]
    return any(entry == str(gpu.index) or (entry and gpu.uuid.startswith(entry)) for entry in entries)


def _join(gpus: tuple[InstalledGpu, ...]) -> str:
    return ", ".join(map(str, gpus))
