"""The shipped family is what its cards say: one tokenizer, unseen problems, a draft that errs, a PRM that notices."""

import json
import re
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gsi.algorithm.candidates import Message
from gsi.engines.hugging_face.tokenizer import Tokenizer
from tests.conftest import MODELS
from training.evaluate import load_family, measure_quality
from training.task import Operation, Problem
from training.tokenizer import build_tokenizer, encode_pieces, prompt_tokens

ROLES = ("draft", "target", "prm")
MAX_BYTES = 30 * 10**6


def problem_of(prompt: str) -> Problem:
    """Read a problem from its text."""
    start, *operations = re.findall(r"Start with (\d+)|Step \d+: ([-+*])(\d+)", prompt)
    chain = tuple(Operation(symbol, int(operand)) for _, symbol, operand in operations)
    return Problem(int(start[0]), chain)


@pytest.fixture(scope="module")
def held_out() -> list[dict[str, str]]:
    return [json.loads(line) for line in (MODELS / "heldout.jsonl").read_text().splitlines()]


def test_the_family_is_small_enough_to_ship() -> None:
    """Under 30 MB in all, so that a clone is enough."""
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < MAX_BYTES


@pytest.mark.parametrize("role", ROLES)
def test_a_model_is_of_the_architecture_that_engines_expect(role: str) -> None:
    """Qwen2, with heads of 32, the smallest that vLLM's CPU build runs."""
    config = json.loads((MODELS / role / "config.json").read_text())
    expected = "Qwen2ForProcessRewardModel" if role == "prm" else "Qwen2ForCausalLM"
    assert (config["architectures"], config["model_type"]) == ([expected], "qwen2")
    assert config["hidden_size"] // config["num_attention_heads"] == 32


@pytest.mark.parametrize("role", ROLES)
def test_loading_a_tokenizer_gives_the_ids_of_training(role: str, held_out: list[dict[str, str]]) -> None:
    """A library that rebuilds the tokenizer its own way would corrupt every prompt without an error."""
    tokenizer = Tokenizer(str(MODELS / role), None)
    for row in held_out:
        assert list(tokenizer.render((Message("user", row["prompt"]),))) == prompt_tokens(problem_of(row["prompt"]))
    step = ["Step 2: ", "Next ", "7", " * ", "9", " = ", "1", "\n\n"]
    assert list(tokenizer.encode("".join(step))) == encode_pieces(step)


@cache
def shipped_tokenizer() -> Tokenizer:
    return Tokenizer(str(MODELS / "target"), None)


@given(st.text(st.characters(max_codepoint=127), max_size=80))
@settings(deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    """A prompt that is no arithmetic is read as it was written; the model may still have nothing to say."""
    tokenizer = shipped_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_tokenizers_are_those_of_the_code() -> None:
    """All three are one, and ``training`` still builds it."""
    fingerprints = {Tokenizer(str(MODELS / role), None).fingerprint for role in ROLES}
    assert len(fingerprints) == 1
    built = build_tokenizer().get_vocab()
    assert AutoTokenizer.from_pretrained(str(MODELS / "prm")).get_vocab() == built


def test_held_out_problems_were_never_trained_on(held_out: list[dict[str, str]]) -> None:
    """A hash of a problem's text decides who may see it, so no list can drift; and the expected answers are right."""
    problems = [problem_of(row["prompt"]) for row in held_out]
    assert len(set(problems)) == 224
    assert {problem.split for problem in problems} == {"heldout"}
    assert [str(problem.answer) for problem in problems] == [row["expected"] for row in held_out]


def test_the_draft_errs_more_than_the_target_and_the_prm_notices(held_out: list[dict[str, str]]) -> None:
    """Without that there would be nothing for GSI to do; the figures are in the model cards."""
    torch.set_num_threads(1)  # models this small lose more by waiting for one another's threads
    family = load_family(MODELS)
    problems = [problem_of(row["prompt"]) for row in held_out[:60]]
    draft = measure_quality(family.draft, family.prm, problems, seed=0)
    target = measure_quality(family.target, family.prm, problems, seed=0)
    assert draft.step_error > 3 * target.step_error
    assert draft.auc > 0.9
