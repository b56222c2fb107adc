"""The entry point ``vllm.general_plugins``: vLLM calls ``register`` in each of its processes, before it loads a model.

Registering in the front end alone would not reach the engine's process. Nothing is imported here that vLLM itself does
not import: it calls this for every program on the machine that uses vLLM.
"""

import multiprocessing
import os
import signal

from gsi.engines.on_vllm.environment import OURS
from gsi.runtime.child import end_with_parent

_HERE = "gsi.engines.on_vllm.inside.reward_models"
REWARD_CLASSES = {
    "GsiQwen2LastStepReward": f"{_HERE}:Qwen2LastStepReward",
    "GsiSkyworkLastStepReward": f"{_HERE}:SkyworkLastStepReward",
}


def register() -> None:
    """Make our model classes known by name; they are imported when one is used."""
    from vllm import ModelRegistry

    for name, path in REWARD_CLASSES.items():
        if name not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(name, path)
    if OURS in os.environ and multiprocessing.parent_process() is not None:
        end_with_parent(signal.SIGKILL)  # a killed service would leave a full GPU
