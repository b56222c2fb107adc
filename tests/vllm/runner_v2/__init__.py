"""vLLM's model runner V2, which every GPU uses, without a GPU: Triton's kernels run in Triton's own interpreter.

vLLM takes the runner only where Triton has an active backend, and Triton has none for CPUs. So the engine's process
gets this folder on its PYTHONPATH, and ``sitecustomize.py`` registers such a backend before vLLM looks. This process
runs no kernel; it is only told that there is a Triton. Where a GPU is, nothing of this happens: the same tests then run
the same runner on CUDA.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

_HERE = str(Path(__file__).parent)


def environment() -> dict[str, str]:
    """Return the variables of an engine's process that make vLLM take the runner."""
    chosen = {"VLLM_USE_V2_MODEL_RUNNER": "1"}
    if torch.cuda.is_available():
        return chosen
    path = os.pathsep.join(filter(None, (_HERE, os.environ.get("PYTHONPATH"))))
    return {**chosen, "PYTHONPATH": path, "TRITON_INTERPRET": "1"}


@contextmanager
def model_runner_v2() -> Iterator[None]:
    """Start engines with the runner meanwhile: their processes inherit this process's variables."""
    with variables(environment()), mock.patch("vllm.config.vllm.HAS_TRITON", True):
        yield


@contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables meanwhile."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
