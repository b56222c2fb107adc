"""The entry point ``vllm.general_plugins``: vLLM calls ``register`` in each of its processes, before it loads a model.

Registering in the front end alone would not reach the engine's process. Nothing is imported here that vLLM itself does
not import: it calls this for every program on the machine that uses vLLM.
"""

import ctypes
import multiprocessing
import os
import signal
import sys

from gsi.engines.vllm_environment import OURS

_HERE = "gsi.engines.inside_vllm.reward_models"
REWARD_CLASSES = {
    "GsiQwen2LastStepReward": f"{_HERE}:Qwen2LastStepReward",
    "GsiSkyworkLastStepReward": f"{_HERE}:SkyworkLastStepReward",
}

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def register() -> None:
    """Make our model classes known by name; they are imported when one is used."""
    from vllm import ModelRegistry

    for name, path in REWARD_CLASSES.items():
        if name not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(name, path)
    if OURS in os.environ and multiprocessing.parent_process() is not None:
        _end_with_parent()


def _end_with_parent() -> None:
    """Ask the kernel to end this process with the one that started it: a killed service would leave a full GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
