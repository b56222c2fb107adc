"""Weights come from safetensors alone; a pickle is refused before anything reads it."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gsi.engines.base import EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS


def without_weights(role: str, folder: Path) -> Path:
    copy = folder / role
    shutil.copytree(MODELS / role, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    return copy


async def load(role: str, checkpoint: Path) -> None:
    table: Any = REWARD_ENGINES if role == "prm" else LANGUAGE_ENGINES
    (await table.load("transformers", EngineSettings(str(checkpoint), num_threads=1))).close()


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("role", ["target", "prm"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
async def test_a_checkpoint_of_pickles_is_refused(tmp_path: Path, role: str, name: str) -> None:
    """Also one of plain tensors. The error names the file, what is allowed, and where to read how to convert it."""
    checkpoint = without_weights(role, tmp_path)
    torch.save(load_file(MODELS / role / "model.safetensors"), checkpoint / name)
    with pytest.raises(MisconfiguredError, match=rf"has no \*\.safetensors, but {name}; allowed: safetensors; convert"):
        await load(role, checkpoint)


async def test_an_index_of_safetensors_that_names_a_pickle_is_refused(tmp_path: Path) -> None:
    """Nothing of it is unpickled."""
    checkpoint, sprung = without_weights("target", tmp_path), tmp_path / "sprung"
    shutil.copy(MODELS / "target" / "model.safetensors", checkpoint / "model-1.safetensors")
    (checkpoint / "model-2.bin").write_bytes(pickle.dumps(Trap(sprung)))
    names = list(load_file(checkpoint / "model-1.safetensors"))
    weight_map = dict.fromkeys(names, "model-1.safetensors") | {names[0]: "model-2.bin"}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MisconfiguredError, match=r"the index of .* names model-2\.bin; allowed: \*\.safetensors"):
        await load("target", checkpoint)
    assert not sprung.exists()


async def test_a_pickle_beside_safetensors_is_not_read(tmp_path: Path) -> None:
    """Many published checkpoints have both."""
    checkpoint, sprung = tmp_path / "target", tmp_path / "sprung"
    shutil.copytree(MODELS / "target", checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    await load("target", checkpoint)
    assert not sprung.exists()
    pickle.loads((checkpoint / "pytorch_model.bin").read_bytes())  # the trap works
    assert sprung.exists()


async def test_a_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    """The error says that there are none."""
    with pytest.raises(MisconfiguredError, match=r"has no \*\.safetensors, but no weights"):
        await load("target", without_weights("target", tmp_path))
