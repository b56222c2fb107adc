"""What an engine without weights reads of a checkpoint: the tokens that end a sequence, and the model's size."""

import json
import shutil
from pathlib import Path

import pytest

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.configuration import count_by_configuration, read_eos_token_ids
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS
from tests.engines.contract import reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small files of the target, without its weights."""
    shutil.copytree(MODELS / "target", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path


def test_the_first_file_that_names_an_end_decides(folder: Path) -> None:
    """The generation's configuration, then the model's, then the tokenizer's own."""
    settings, tokenizer = EngineSettings(str(folder)), Tokenizer(str(folder), None)
    for name, given, expected in (
        ("generation_config.json", [5, 6], (5, 6)),
        ("generation_config.json", None, (7,)),
        ("config.json", None, (tokenizer.end_token_id,)),
    ):
        _set_eos(folder / "config.json", 7)
        _set_eos(folder / name, given)
        assert read_eos_token_ids(settings, tokenizer) == expected
    assert tokenizer.end_token_id is not None


def test_a_checkpoint_that_names_no_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that nothing ends would fill the context."""
    tokenizer = Tokenizer(str(folder), None)
    monkeypatch.setattr(Tokenizer, "end_token_id", None)
    for name in ("generation_config.json", "config.json"):
        _set_eos(folder / name, None)
    with pytest.raises(MisconfiguredError, match="names no eos_token_id"):
        read_eos_token_ids(EngineSettings(str(folder)), tokenizer)


def test_a_size_needs_no_weights(folder: Path) -> None:
    """It is that of the model which the configuration describes; without a configuration it is unknown."""
    settings = EngineSettings(str(folder))
    expected = sum(parameter.numel() for parameter in reference("target")[0].parameters())
    assert count_by_configuration(settings, None) == expected
    (folder / "config.json").unlink()
    assert count_by_configuration(settings, None) is None


def _set_eos(path: Path, eos: int | list[int] | None) -> None:
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "eos_token_id": eos}))
