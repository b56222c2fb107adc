"""What vLLM reads from the environment, and most of it once, when it is first imported.

Whoever starts the process may have set a variable already: then theirs holds.
"""

import os

OURS = "GSI_INSIDE_VLLM"  # tells our plugin that vLLM runs for one of our services

_ALWAYS = {
    OURS: "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with gRPC's threads would hang
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    # On a GPU vLLM tries FlashInfer's sampler when it starts, which is compiled then, and without CUDA's compiler vLLM
    # ends (https://github.com/vllm-project/vllm/issues/49497). It would never be used: it takes no seeded requests.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
_ON_A_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several services share the cores
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's process does its one worker's work itself
}


def prepare_import() -> None:
    """Set what must be there before vLLM is imported."""
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)


def prepare_cpu(num_threads: int | None) -> None:
    """Set what an engine on a CPU must find when its process starts."""
    for name, value in _ON_A_CPU.items():
        os.environ.setdefault(name, value)
    if num_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
