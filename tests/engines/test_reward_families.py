"""How each family of reward models reads a trajectory, and how its outputs become a reward."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gsi.algorithm.candidates import Message
from gsi.algorithm.weighting import logistic
from gsi.engines.hugging_face.reward_families import RewardFamily, find_family, read_reward
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.reward_profile import load_profile
from gsi.errors import InternalError, MisconfiguredError
from tests.conftest import MODELS

PRM = str(MODELS / "prm")
MESSAGES = (Message("system", "Be brief."), Message("user", "Mia has 27 shells. Tom gives her 11 shells."))
STEP, LAST = "Tom gives her 11 shells, so Mia has 27 + 11 = 38 shells.\n\n", "The answer is 38"
ROUNDING = 1e-15
STEP_MARK = "<extra_0>"
PROCESS_PROFILES = ("qwen2.5-math-prm", "skywork-o1", "math-shepherd", "rlhflow")

TEXTS = st.text("On 1+=.\n", max_size=12)
VALUES = st.floats(-700, 700)  # their exponential is a number
EVERY_VALUE = st.floats(allow_nan=False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(PRM, None)


def make_family(name: str, tokenizer: Tokenizer) -> RewardFamily:
    return RewardFamily(load_profile(name), tokenizer, PRM)


@pytest.fixture(scope="module")
def qwen(tokenizer: Tokenizer) -> RewardFamily:
    return make_family("qwen2.5-math-prm", tokenizer)


@pytest.fixture(scope="module")
def skywork(tokenizer: Tokenizer) -> RewardFamily:
    return make_family("skywork-o1", tokenizer)


@pytest.fixture(scope="module")
def outcome(tokenizer: Tokenizer) -> RewardFamily:
    return make_family("outcome", tokenizer)


@pytest.fixture(scope="module")
def two_labels(tokenizer: Tokenizer) -> RewardFamily:
    return make_family("outcome-labels", tokenizer)


@pytest.fixture(scope="module", params=[*PROCESS_PROFILES, "outcome"])
def family(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> RewardFamily:
    return make_family(request.param, tokenizer)


@pytest.fixture(
    scope="module", params=["qwen2.5-math-prm", "skywork-o1", "math-shepherd", "rlhflow", "token-classifier"]
)
def process_family(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> RewardFamily:
    return make_family(request.param, tokenizer)


def apply_template(*conversation: Message, add_generation_prompt: bool) -> str:
    """Return the text of the checkpoint's chat template, by Hugging Face's own tokenizer."""
    turns = [{"role": message.role, "content": message.content} for message in conversation]
    tokenizer = AutoTokenizer.from_pretrained(PRM)
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
    return text


def read_markup(text: str) -> tuple[int, ...]:
    """Return the token ids of a text with names of control tokens, by Hugging Face's own tokenizer."""
    return tuple(AutoTokenizer.from_pretrained(PRM)(text)["input_ids"])


@pytest.mark.parametrize("name", ["<extra_0>", "<|im_end|>"])
def test_a_step_that_names_a_control_token_holds_text(family: RewardFamily, name: str) -> None:
    """A draft cannot write a mark into a step, nor end the conversation, by spelling it."""
    (control,) = read_markup(name)
    plain = family.prefix(MESSAGES, [STEP, STEP]) + family.candidate(STEP)
    named = family.prefix(MESSAGES, [STEP, f"{name}{STEP}"]) + family.candidate(f"{name}{STEP}")
    assert len(named) > len(plain)
    assert named.count(control) == plain.count(control)


@given(steps=st.lists(TEXTS, max_size=3), text=TEXTS)
def test_what_was_read_is_the_beginning_of_what_is_read_next(family: RewardFamily, steps: list[str], text: str) -> None:
    """Otherwise an engine could keep nothing and would read the whole answer at every step."""
    before = family.prefix(MESSAGES, steps)
    assert family.prefix(MESSAGES, [*steps, text])[: len(before)] == before


@given(steps=st.lists(TEXTS, max_size=3), text=TEXTS)
def test_a_kept_step_is_read_as_the_candidate_was(process_family: RewardFamily, steps: list[str], text: str) -> None:
    """The engine has read the step and its mark when it judged the candidate."""
    text = f"{text}."  # a step of blank lines alone is cut to nothing when it is judged
    judged = process_family.prefix(MESSAGES, steps) + process_family.candidate(f"{text}\n\n", is_first=not steps)
    assert process_family.prefix(MESSAGES, [*steps, f"{text}\n\n"])[: len(judged)] == judged


def test_the_qwen_family_has_a_mark_behind_each_step(qwen: RewardFamily, tokenizer: Tokenizer) -> None:
    """By the model card it stands in place of the delimiter; the reward is read at the last mark."""
    marked = "".join(f"{text.rstrip()}{STEP_MARK}" for text in (STEP, LAST))
    expected = read_markup(apply_template(*MESSAGES, add_generation_prompt=True) + marked)
    assert tuple(qwen.prefix(MESSAGES, [STEP]) + qwen.candidate(LAST)) == expected
    assert expected[-1] == tokenizer.token_id(STEP_MARK)


def test_a_model_without_the_mark_is_refused() -> None:
    """A reward that is read at another token would be a guess."""

    class WithoutMark:
        """A vocabulary without the mark; each shipped vocabulary has it."""

        def token_id(self, token: str) -> int | None:
            return None

    tokenizer: Any = WithoutMark()
    with pytest.raises(MisconfiguredError, match=r"some/model has no token <extra_0>: not a PRM"):
        RewardFamily(load_profile("qwen2.5-math-prm"), tokenizer, "some/model")


def test_the_skywork_family_reads_problem_and_lines(skywork: RewardFamily, tokenizer: Tokenizer) -> None:
    """There is no chat template and no system message; the reward is read at the newline of the candidate's line."""
    token_ids = skywork.prefix(MESSAGES, [STEP]) + skywork.candidate(LAST)
    lines = (MESSAGES[1].content, STEP.rstrip(), "", LAST)
    expected = [tokenizer.encode(line) + tokenizer.encode("\n") for line in lines]
    assert tuple(token_ids) == sum(expected, ())
    assert (token_ids[-1],) == tokenizer.encode("\n")


def test_the_skywork_family_begins_with_the_token_that_begins_a_sequence() -> None:
    """A vocabulary with such a token was trained with it; the shipped vocabularies have none."""

    class WithBeginning(Tokenizer):
        """The shipped vocabulary, with one of its tokens as the first token of a sequence."""

        @property
        def begin_token_ids(self) -> tuple[int, ...]:
            return read_markup("<|endoftext|>")

    tokenizer = WithBeginning(PRM, None)
    plain = make_family("skywork-o1", Tokenizer(PRM, None)).prefix(MESSAGES, [])
    begun = make_family("skywork-o1", tokenizer).prefix(MESSAGES, [])
    assert begun == [tokenizer.token_id("<|endoftext|>"), *plain]


def test_the_outcome_family_reads_a_finished_conversation(outcome: RewardFamily) -> None:
    """Steps and candidate are one answer, closed as the chat template closes it."""
    answer = Message("assistant", STEP + LAST)
    expected = read_markup(apply_template(*MESSAGES, answer, add_generation_prompt=False))
    assert tuple(outcome.prefix(MESSAGES, [STEP]) + outcome.candidate(LAST)) == expected


@given(bad=VALUES, good=VALUES)
def test_two_labels_are_bad_and_good(qwen: RewardFamily, two_labels: RewardFamily, bad: float, good: float) -> None:
    """The reward is the softmax of the second label."""
    largest = max(bad, good)
    softmax = math.exp(good - largest) / (math.exp(bad - largest) + math.exp(good - largest))
    assert qwen.reward([bad, good]) == pytest.approx(softmax)
    assert two_labels.reward([bad, good]) == pytest.approx(softmax)


@given(VALUES)
def test_a_process_models_value_becomes_a_reward_by_the_logistic_function(skywork: RewardFamily, value: float) -> None:
    """Its authors read it so."""
    assert skywork.reward([value]) == pytest.approx(1 / (1 + math.exp(-value)))


@given(VALUES)
def test_an_outcome_models_value_is_the_reward(outcome: RewardFamily, value: float) -> None:
    """It may have any size: the job says how to map it."""
    assert outcome.reward([value]) == value


@pytest.mark.parametrize(("name", "outputs"), [("qwen", [0.5]), ("skywork", [0.5, 0.5]), ("outcome", [0.5, 0.5, 0.5])])
def test_outputs_of_another_family_are_no_reward(
    request: pytest.FixtureRequest, name: str, outputs: list[float]
) -> None:
    """A model that is read as another family fails instead of making up numbers."""
    family: RewardFamily = request.getfixturevalue(name)
    with pytest.raises(ValueError, match=f"gave {len(outputs)} values; its profile reads"):
        family.reward(outputs)


@pytest.mark.parametrize(
    ("architecture", "num_labels", "name", "is_bounded"),
    [
        ("Qwen2ForProcessRewardModel", 2, "qwen2.5-math-prm", True),
        ("Qwen2ForPrmModel", 2, "skywork-o1", True),
        ("LlamaForSequenceClassification", 1, "outcome", False),
        ("Gemma2ForSequenceClassification", 2, "outcome-labels", True),
        ("Qwen3ForTokenClassification", 2, "token-classifier", True),
    ],
)
def test_an_architecture_has_a_family(
    tokenizer: Tokenizer, architecture: str, num_labels: int, name: str, is_bounded: bool
) -> None:
    """Both engines choose by architecture; only a single value without a scale is unbounded."""
    family = find_family(architecture, num_labels, tokenizer, PRM)
    assert family is not None
    assert (family.profile.name, family.is_bounded) == (name, is_bounded)


def test_other_architectures_have_none(tokenizer: Tokenizer) -> None:
    """Each engine decides what it does then."""
    assert find_family("Qwen2ForCausalLM", 1, tokenizer, PRM) is None


def test_a_classifier_of_many_labels_is_refused(tokenizer: Tokenizer) -> None:
    """It is unknown which of its labels is good."""
    with pytest.raises(MisconfiguredError, match="some/model has 5 labels; allowed for a reward: 1 value, or 2 labels"):
        find_family("BertForSequenceClassification", 5, tokenizer, "some/model")


@given(st.floats())
def test_a_sound_reward_is_a_number_in_the_familys_range(outcome: RewardFamily, value: float) -> None:
    """Any other number is reported as the model's fault."""
    if math.isfinite(value):
        assert read_reward(outcome, [[value]]) == value
    else:
        with pytest.raises(InternalError, match="the reward model gave"):
            read_reward(outcome, [[value]])


def test_outputs_that_are_no_numbers_are_the_models_fault(two_labels: RewardFamily) -> None:
    """A broken kernel gives NaN; a reward that is none would rank somewhere."""
    assert read_reward(two_labels, [[0.0, 0.0]]) == 0.5
    with pytest.raises(InternalError, match=r"the reward model gave \[\[nan, 0\.0\]\]"):
        read_reward(two_labels, [[math.nan, 0.0]])


@given(EVERY_VALUE)
def test_every_value_has_a_reward_from_0_to_1(value: float) -> None:
    """Nothing overflows, and the rewards of a value and its opposite add up to 1."""
    assert 0 <= logistic(value) <= 1
    assert logistic(-value) == pytest.approx(1 - logistic(value), abs=ROUNDING)


@given(EVERY_VALUE, EVERY_VALUE)
def test_a_larger_value_never_has_a_smaller_reward(one: float, other: float) -> None:
    """Otherwise the reward would reverse the model's order."""
    assert logistic(min(one, other)) <= logistic(max(one, other)) + ROUNDING
