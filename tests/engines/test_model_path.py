"""A mistyped folder is refused at once: the Hub is asked only for what may be a name on the Hub."""

from pathlib import Path

import pytest

from gsi.engines.base import EngineSettings
from gsi.engines.model_path import refuse_missing_folder
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (f"{MODELS}/drfat", f"no such folder; did you mean {MODELS}/draft"),
        (f"{MODELS.parent}/modles/draft", f"no such folder; did you mean {MODELS}"),
        (f"{MODELS}/xyzzy", f"no such folder; {MODELS} has draft, prm"),
        (f"{MODELS}/draft/config.json", "is a file"),
    ],
)
async def test_the_error_says_which_folder_may_be_meant(wrong: str, sentence: str) -> None:
    """Before a runtime is imported, which takes seconds."""
    with pytest.raises(MisconfiguredError, match=sentence):
        await LANGUAGE_ENGINES.load("vllm", EngineSettings(wrong))


def test_a_relative_name_is_a_folder_if_its_first_part_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """``models/drfat`` could be a name on the Hub, but a folder ``models`` is here."""
    monkeypatch.chdir(MODELS.parent)
    with pytest.raises(MisconfiguredError, match=r"did you mean models/draft\?"):
        refuse_missing_folder("models/drfat")


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-Math-1.5B-Instruct", "http://127.0.0.1:8000/v1"])
def test_a_name_on_the_hub_is_left_to_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_missing_folder(name)


def test_a_folder_that_is_there_passes() -> None:
    refuse_missing_folder(str(MODELS / "draft"))
