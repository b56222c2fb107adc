"""The environment variables that vLLM reads, most of them once, when it is first imported.

A variable that is already set keeps its value.
"""

import os

SERVICE_FLAG = "GSI_INSIDE_VLLM"  # tells ``inside/plugin.py`` that vLLM runs for a service of this package

_ALWAYS = {
    SERVICE_FLAG: "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with gRPC's threads would hang
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    # On a GPU vLLM compiles FlashInfer's sampler when it starts, and without CUDA's compiler vLLM ends
    # (https://github.com/vllm-project/vllm/issues/49497). The sampler takes no seeded requests, so it is never used.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
_ON_A_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several services share the cores
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's process does the work of its only worker
}


def prepare_import() -> None:
    """Set the variables that vLLM reads when it is imported."""
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)


def prepare_cpu(num_threads: int | None) -> None:
    """Set the variables that an engine on a CPU reads when its process starts."""
    for name, value in _ON_A_CPU.items():
        os.environ.setdefault(name, value)
    if num_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
