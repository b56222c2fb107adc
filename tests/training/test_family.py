"""The shipped family is what its cards say: one tokenizer, unseen problems, a draft that errs, a PRM that notices."""

import json
import math
import random
import re
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen2ForCausalLM

from gsi.algorithm.candidates import Message
from gsi.engines.hugging_face.tokenizer import Tokenizer
from tests.conftest import MODELS
from training.evaluate import load_family, measure_quality
from training.language_model import grow, make_qwen2_config
from training.recipe import Shape
from training.task import draw_distinct_problems, draw_problem, grade_step, read_result, solve, split_of
from training.tokenizer import build_tokenizer, chat_text, decode, encode
from training.words import WORDS

STEP = "Then on Tuesday she buys 3 packs of 4 shells, that is 3 * 4 = 12 shells, so Mia now has 7 + 12 = 19 shells.\n\n"
ROLES = ("draft", "target", "prm")
MAX_BYTES = 40 * 10**6


def answer_of(prompt: str) -> int:
    """Read a problem as a person does, sentence by sentence, without the code that wrote it."""
    opening, *events, _question = prompt.split(". ")
    (value,) = map(int, re.findall(r"\d+", opening))
    for event in events:
        amount = math.prod(map(int, re.findall(r"\d+", event)))
        if re.search("gives|brings|finds|buys|wins", event):
            value += amount
        elif re.search("loses|sells|uses|lends", event):
            value -= amount
        else:
            value *= {"doubles": 2, "triples": 3}[event.split()[3]]
    return value


@pytest.fixture(scope="module")
def held_out() -> list[dict[str, str]]:
    return [json.loads(line) for line in (MODELS / "heldout.jsonl").read_text().splitlines()]


def test_the_family_is_small_enough_to_ship() -> None:
    """Under 40 MB in all, so that a clone is enough."""
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
        trained_on = encode([chat_text(row["prompt"])])[0]
        assert list(tokenizer.render((Message("user", row["prompt"]),))) == trained_on
    assert list(tokenizer.encode(STEP)) == encode([STEP])[0]


def test_a_step_is_cut_into_words_and_numbers() -> None:
    """No word of the task falls apart into bytes, so that a step has as few tokens as a person would count."""
    pieces = [decode([token]) for token in encode([STEP])[0]]
    assert "".join(pieces) == STEP
    assert set(pieces) <= {*WORDS, ",", "."}
    assert {" she buys", " packs of", " 12", "\n\n"} <= set(pieces)


@cache
def shipped_tokenizer() -> Tokenizer:
    return Tokenizer(str(MODELS / "target"), None)


@given(st.text(st.characters(max_codepoint=127), max_size=80))
@settings(deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    """A prompt that is no word problem is read as it was written; the model may still have nothing to say."""
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
    prompts = [row["prompt"] for row in held_out]
    assert len(set(prompts)) == 500
    assert {split_of(prompt) for prompt in prompts} == {"heldout"}
    assert [str(answer_of(row["prompt"])) for row in held_out] == [row["expected"] for row in held_out]
    rng = random.Random(3)
    assert {split_of(draw_problem(rng, "train").prompt) for _ in range(200)} == {"train"}


@given(st.integers(0, 10**6))
@settings(deadline=None)
def test_a_solution_without_mistakes_is_right_step_by_step(seed: int) -> None:
    """The grader accepts what the writer wrote, and nothing with another number."""
    rng = random.Random(seed)
    problem = draw_problem(rng, "train")
    value = problem.start
    for index, text in enumerate(solve(problem, rng, {}, noise=0.0), start=1):
        assert grade_step(problem, index, value, text)
        assert not grade_step(problem, index, value + 1, text)
        value = read_result(text) or value
    assert value == problem.answer == answer_of(problem.prompt)


def test_a_grown_model_begins_as_the_model_that_it_grew_from() -> None:
    """Inserted layers pass on what they are given, so that growing loses nothing."""
    torch.manual_seed(0)
    shallow = Qwen2ForCausalLM(make_qwen2_config(Shape(hidden=32, layers=2, intermediate=32))).eval()
    tokens = torch.tensor(encode([STEP]))
    with torch.inference_mode():
        expected = shallow(tokens).logits
        torch.testing.assert_close(grow(shallow, 7).eval()(tokens).logits, expected)


def test_the_draft_errs_more_than_the_target_and_the_prm_notices() -> None:
    """Without that there would be nothing for GSI to do; the figures are in the model cards."""
    torch.set_num_threads(1)  # models this small lose more by waiting for one another's threads
    family = load_family(MODELS)
    problems = draw_distinct_problems(random.Random(1), 100, "validation")
    draft = measure_quality(family.draft, family.prm, problems, seed=0)
    target = measure_quality(family.target, family.prm, problems, seed=0)
    assert draft.step_error > 1.5 * target.step_error
    assert draft.auc > 0.9
