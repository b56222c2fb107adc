"""Engines that these tests start in their own process are forks of a process that has imported vLLM.

The import takes eight seconds of a processor, and these tests start some twenty engines. The fork server imports once,
before it has any thread. A service starts its engine by ``spawn``, as it does in the tests of services and of systems.
The kernels of runner V2 need other variables when they are imported, and a GPU's driver cannot be forked: they spawn.
"""

import multiprocessing
import os
from multiprocessing.context import BaseContext
from typing import Any

import torch

MODULES = (
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen2",
    "gsi.engines.on_vllm.inside.scheduler",
    "gsi.engines.on_vllm.inside.tempering",
)


def fork_engines(utils: Any) -> None:
    """Let ``vllm.v1.engine.utils`` start engines so."""
    spawned = utils.get_mp_context

    def choose() -> BaseContext:
        is_other = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") or torch.cuda.is_available()
        context: BaseContext = spawned() if is_other else multiprocessing.get_context("forkserver")
        return context

    multiprocessing.set_forkserver_preload(list(MODULES))
    utils.get_mp_context = choose
