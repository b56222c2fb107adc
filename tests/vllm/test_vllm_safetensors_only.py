"""vLLM reads safetensors alone, whatever its own default is."""

import shutil
from pathlib import Path

import pytest
import torch

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.core import make_engine_config
from gsi.engines.on_vllm.language import LANGUAGE_MODEL_ARGS
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS


def test_its_default_format_is_safetensors() -> None:
    """Not the format that takes *.bin where there are no safetensors."""
    config = make_engine_config(EngineSettings(str(MODELS / "target"), num_threads=1), LANGUAGE_MODEL_ARGS)
    assert config.load_config.load_format == "safetensors"


@pytest.mark.parametrize("load_format", ["pt", "npcache", "hf", "bitsandbytes"])
def test_a_format_of_pickles_is_refused(load_format: str) -> None:
    """The error names what is allowed."""
    settings = EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=f"--load-format {load_format}")
    with pytest.raises(MisconfiguredError, match=f"--load-format is {load_format}; allowed: safetensors, "):
        make_engine_config(settings, LANGUAGE_MODEL_ARGS)


def test_a_checkpoint_of_pickles_is_refused(tmp_path: Path) -> None:
    """Before vLLM looks at it."""
    checkpoint = tmp_path / "target"
    shutil.copytree(MODELS / "target", checkpoint, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, checkpoint / "pytorch_model.bin")
    with pytest.raises(MisconfiguredError, match=r"has no \*\.safetensors, but pytorch_model\.bin"):
        make_engine_config(EngineSettings(str(checkpoint), num_threads=1), LANGUAGE_MODEL_ARGS)
