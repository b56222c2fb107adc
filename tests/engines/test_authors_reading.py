"""A PRM that reads the steps as the authors' code does: GSI's doubles a mark, Skywork's takes each line as a step.

What their code does is written anew here, on Hugging Face's own tokenizer, and is not what the default does.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gsi.algorithm.candidates import Message
from gsi.engines.base import EngineSettings, Reading
from gsi.engines.hugging_face.reward_families import RewardFamily, find_family
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import REWARD_ENGINES
from gsi.engines.reward_profile import load_profile
from gsi.errors import MisconfiguredError
from services.prm.settings import PrmSettings
from tests.conftest import MODELS
from tests.engines.reward_checkpoints import classifier

PRM = str(MODELS / "prm")
MESSAGES = (Message("system", "Be brief."), Message("user", "Start with 27. Step 1: +11. Work mod 31."))
STEP, LAST, LINES = "Step 1: 27 + 11 = 7\n\n", "The answer is 7", "Step 1:\n27 + 11 = 7\n\n"
STEP_MARK = "<extra_0>"
PARTS = st.text("Step 1:+=", min_size=1, max_size=8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(PRM, None)


@pytest.fixture(scope="module")
def qwen(tokenizer: Tokenizer) -> RewardFamily:
    return RewardFamily(load_profile("qwen2.5-math-prm-authors"), tokenizer, PRM)


@pytest.fixture(scope="module")
def skywork(tokenizer: Tokenizer) -> RewardFamily:
    return RewardFamily(load_profile("skywork-o1-authors"), tokenizer, PRM)


def read(family: RewardFamily, steps: list[str], candidate: str) -> list[int]:
    return [*family.prefix(MESSAGES, steps), *family.candidate(candidate)]


def by_gsis_code(response: str) -> list[int]:
    """Return the tokens up to the last mark: the parts between delimiters, joined by marks, and one mark more."""
    turns = [{"role": message.role, "content": message.content} for message in MESSAGES]
    tokenizer = AutoTokenizer.from_pretrained(PRM)
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    found: list[int] = tokenizer(text + STEP_MARK.join(response.split("\n\n")) + STEP_MARK)["input_ids"]
    return found


def by_skyworks_code(response: str) -> list[int]:
    """Return the tokens of its ``prepare_input`` with the step token "\\n"; the shipped vocabulary begins with none."""
    tokenizer = AutoTokenizer.from_pretrained(PRM)
    newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
    found = list(tokenizer.encode(f"{MESSAGES[1].content}\n", add_special_tokens=False))
    for line in response.split("\n"):
        found += [*(tokenizer.encode(line, add_special_tokens=False) if line else []), newline]
    return found


def num_marks_behind(token_ids: list[int]) -> int:
    return next(i for i, token in enumerate(reversed(token_ids)) if token != token_ids[-1])


@given(st.lists(PARTS, max_size=3), PARTS, st.booleans())
def test_the_authors_of_gsi_double_the_mark(
    qwen: RewardFamily, parts: list[str], last: str, is_delimited: bool
) -> None:
    """A candidate that ends with the delimiter is judged at its second mark; kept steps have one."""
    steps, candidate = [f"{part}\n\n" for part in parts], last + ("\n\n" if is_delimited else "")
    found = read(qwen, steps, candidate)
    assert found == by_gsis_code("".join(steps) + candidate)
    assert num_marks_behind(found) == (2 if is_delimited else 1)


def test_the_default_has_one_mark_behind_each_step(tokenizer: Tokenizer, qwen: RewardFamily) -> None:
    """As the model card says; without a delimiter at the end both readings are one."""
    default = RewardFamily(load_profile("qwen2.5-math-prm"), tokenizer, PRM)
    assert num_marks_behind(read(default, [STEP], STEP)) == 1
    assert read(default, [STEP], STEP) == read(qwen, [STEP], STEP)[:-1]
    assert read(default, [STEP, STEP], LAST) == read(qwen, [STEP, STEP], LAST)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=2), max_size=3), st.lists(PARTS, min_size=1, max_size=2))
def test_each_line_is_a_step_of_skywork(skywork: RewardFamily, parts: list[list[str]], last: list[str]) -> None:
    """Each is tokenised by itself, the empty ones too, and the last has one newline more than was written."""
    steps, candidate = ["\n".join(lines) + "\n\n" for lines in parts], "\n".join(last) + "\n\n"
    assert read(skywork, steps, candidate) == by_skyworks_code("".join(steps) + candidate)
    assert num_marks_behind(read(skywork, steps, candidate)) == 3


def test_the_default_has_one_newline_behind_each_step_of_skywork(tokenizer: Tokenizer, skywork: RewardFamily) -> None:
    """However many lines it has, and whatever it ends with."""
    default = RewardFamily(load_profile("skywork-o1"), tokenizer, PRM)
    assert num_marks_behind(read(default, [LINES], LINES)) == 1
    assert read(default, [LINES], LINES) != read(skywork, [LINES], LINES)
    assert read(default, [], LAST) == read(skywork, [], LAST)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=2), max_size=3), st.lists(PARTS, min_size=1, max_size=2))
def test_by_default_a_whole_answer_is_read_as_skyworks_code_reads_it(
    tokenizer: Tokenizer, parts: list[list[str]], last: list[str]
) -> None:
    """Line by line; only a delimiter at the end of the candidate is not read before the candidate is kept."""
    default = RewardFamily(load_profile("skywork-o1"), tokenizer, PRM)
    steps, candidate = ["\n".join(lines) + "\n\n" for lines in parts], "\n".join(last)
    assert read(default, steps, f"{candidate}\n\n") == by_skyworks_code("".join(steps) + candidate)


@given(st.lists(st.text("a:=\n", max_size=8), max_size=3), st.text("a:=\n", max_size=8))
def test_what_was_read_is_the_beginning_of_what_is_read_next(
    qwen: RewardFamily, skywork: RewardFamily, steps: list[str], text: str
) -> None:
    """So that the engines may keep what they have read."""
    for family in (qwen, skywork):
        before = family.prefix(MESSAGES, steps)
        assert family.prefix(MESSAGES, [*steps, text])[: len(before)] == before


@pytest.mark.parametrize("architecture", ["Qwen2ForProcessRewardModel", "Qwen2ForPrmModel"])
def test_the_setting_chooses_the_reading(
    tokenizer: Tokenizer, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``GSI_PRM_READING``; the model card's unless it is set."""
    monkeypatch.setenv("GSI_PRM_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GSI_PRM_MODEL", PRM)
    assert PrmSettings().reading is Reading.MODEL_CARD
    monkeypatch.setenv("GSI_PRM_READING", "authors")
    for reading, told in ((Reading.MODEL_CARD, ""), (PrmSettings().reading, "authors")):
        family = find_family(architecture, 2, tokenizer, PRM, reading)
        assert family is not None
        assert family.reading == told


async def test_an_outcome_model_has_no_steps_to_read(tmp_path: Path) -> None:
    """The setting would have no effect there, so it is refused."""
    path, _ = classifier(tmp_path / "model")
    with pytest.raises(MisconfiguredError, match=r"reading: authors is not allowed for .*; allowed: model-card"):
        await REWARD_ENGINES.load("transformers", EngineSettings(str(path), num_threads=1, reading=Reading.AUTHORS))
