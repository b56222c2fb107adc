"""The entry point ``vllm.general_plugins``: vLLM calls ``register`` in each of its processes, before it loads a model.

A registration in the front end alone would not reach the engine's process. vLLM calls ``register`` in every program
that uses vLLM in this environment, so this module imports nothing heavy,
and outside our services it only registers the classes.
"""

import multiprocessing
import os
import signal

from gsi.engines.on_vllm.environment import SERVICE_FLAG
from gsi.runtime.child import end_with_parent

_MODULE = "gsi.engines.on_vllm.inside.reward_models"
REWARD_CLASSES = {
    "GsiQwen2LastStepReward": f"{_MODULE}:Qwen2LastStepReward",
    "GsiSkyworkLastStepReward": f"{_MODULE}:SkyworkLastStepReward",
}


def register() -> None:
    """Register our model classes by name. vLLM imports a class when it loads a model of that name."""
    from vllm import ModelRegistry

    for name, path in REWARD_CLASSES.items():
        if name not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(name, path)
    if SERVICE_FLAG in os.environ and multiprocessing.parent_process() is not None:
        end_with_parent(signal.SIGKILL)  # otherwise a killed service would leave its engine on the GPU
