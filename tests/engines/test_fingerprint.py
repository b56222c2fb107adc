"""A checkpoint is known by its files: what changes its fingerprint, and what does not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gsi.engines.hugging_face.fingerprint import SAMPLE_BYTES, fingerprint_checkpoint
from gsi.model_info import ModelInfo
from tests.conftest import MODELS

WEIGHTS = "model.safetensors"
INFO = ModelInfo("tiny", "local", "-", 320, 512, (1,), (2,), (), "transformers", "5")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the shipped draft."""
    return Path(shutil.copytree(MODELS / "draft", tmp_path / "draft"))


def train_on(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = sorted(tensors)[-1]
    save_file({**tensors, name: tensors[name] + 0.5}, folder / WEIGHTS, metadata={"format": "pt"})


def edit_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))


def edit_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")


def edit_tokenizer(folder: Path) -> None:
    with (folder / "tokenizer.json").open("a") as file:
        file.write(" ")


@pytest.mark.parametrize("change", [train_on, edit_configuration, edit_chat_template, edit_tokenizer])
def test_another_model_under_the_same_name_has_another_fingerprint(
    checkpoint: Path, change: Callable[[Path], None]
) -> None:
    """Trained further, read with other settings, asked by another template, or cut into other tokens."""
    before = fingerprint_checkpoint(str(checkpoint), None)
    assert before == fingerprint_checkpoint(str(MODELS / "draft"), None)  # wherever the files lie
    change(checkpoint)
    assert fingerprint_checkpoint(str(checkpoint), None) != before


def test_what_does_not_change_the_model_does_not_change_the_fingerprint(checkpoint: Path) -> None:
    """A readme, or a copy of the weights that the index does not name."""
    index = {"weight_map": dict.fromkeys(load_file(checkpoint / WEIGHTS), WEIGHTS)}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    before = fingerprint_checkpoint(str(checkpoint), None)
    (checkpoint / "README.md").write_text("Better than ever.")
    shutil.copy(checkpoint / WEIGHTS, checkpoint / "consolidated.safetensors")
    assert fingerprint_checkpoint(str(checkpoint), None) == before


def test_of_a_long_tensor_the_ends_are_read(tmp_path: Path) -> None:
    """So the fingerprint of a large checkpoint costs little, and what lies between the samples is not covered."""

    def fingerprint(**places: float) -> str:
        tensor = torch.zeros(4 * SAMPLE_BYTES)
        for place, value in places.items():
            tensor[int(place.removeprefix("at_"))] = value
        save_file({"weight": tensor}, tmp_path / WEIGHTS)
        return fingerprint_checkpoint(str(tmp_path), None)

    plain, last = fingerprint(), 4 * SAMPLE_BYTES - 1
    assert fingerprint(at_0=1.0) != plain != fingerprint(**{f"at_{last}": 1.0})
    assert fingerprint(**{f"at_{2 * SAMPLE_BYTES}": 1.0}) == plain


def test_a_checkpoint_that_is_not_here_has_no_fingerprint() -> None:
    """Nothing is downloaded for it."""
    assert fingerprint_checkpoint("nobody/no-such-model", None) == ""


def test_replicas_with_other_files_are_strangers() -> None:
    """If both know their fingerprint: a service of an older release, which does not, is no stranger."""
    ours = replace(INFO, checkpoint_fingerprint="a", dtype="float32")
    assert not replace(ours, checkpoint_fingerprint="b").is_same_model(ours)
    assert not replace(ours, reading="authors").is_same_model(ours)
    assert replace(ours, engine_version="6", dtype="bfloat16", profile="a").is_same_model(ours)
    assert replace(ours, can_judge=True).is_same_model(ours)
    assert INFO.is_same_model(ours)
    assert ours.is_same_model(INFO)
