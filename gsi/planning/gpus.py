"""What a GPU can do at best, by its maker's datasheet."""

from collections.abc import Mapping
from dataclasses import dataclass

from gsi.errors import InvalidRequestError
from gsi.suggestions import list_names


@dataclass(frozen=True, slots=True)
class Gpu:
    """Peak rates of one GPU: dense bfloat16 (no sparsity) in FLOPs a second, memory in bytes and bytes a second."""

    name: str
    flops: float
    bandwidth: float
    memory: float
    source: str

    @property
    def ridge(self) -> float:
        """Return the arithmetic intensity, in FLOPs a byte, above which a pass is compute-bound at best."""
        return self.flops / self.bandwidth


# Tensor-core rates are often printed with sparsity, which doubles them; these are without. Memory is in 10^9 bytes.
GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40gb", 312e12, 1.555e12, 40e9, "NVIDIA A100 datasheet, SXM 40 GB (2020)"),
        Gpu("a100", 312e12, 2.039e12, 80e9, "NVIDIA A100 datasheet, SXM 80 GB (2021)"),
        Gpu("h100-pcie", 756e12, 2.0e12, 80e9, "NVIDIA H100 datasheet, PCIe (2022)"),
        Gpu("h100", 989.4e12, 3.35e12, 80e9, "NVIDIA H100 datasheet, SXM (2022)"),
        Gpu("h200", 989.4e12, 4.8e12, 141e9, "NVIDIA H200 datasheet, SXM (2023)"),
        Gpu("b200", 2250e12, 7.7e12, 180e9, "NVIDIA B200 datasheet, HGX (2024)"),
        Gpu("l4", 121e12, 0.3e12, 24e9, "NVIDIA L4 datasheet (2023)"),
        Gpu("l40s", 362.05e12, 0.864e12, 48e9, "NVIDIA L40S datasheet (2023)"),
        Gpu("a10", 125e12, 0.6e12, 24e9, "NVIDIA A10 datasheet (2021)"),
        Gpu("mi300x", 1307.4e12, 5.3e12, 192e9, "AMD Instinct MI300X datasheet (2023)"),
    )
}


def find_gpu(option: str, given: str) -> Gpu:
    """Return a GPU by name. Raises InvalidRequestError that names the option and the GPUs that there are."""
    gpu = GPUS.get(given.lower())
    if gpu is None:
        raise InvalidRequestError(f"{option}: {given} is not allowed; allowed: {list_names(given, GPUS)}")
    return gpu
