"""What users write is text to the tokenizer, whatever it spells; only the chat template writes control tokens."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Rust
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gsi.algorithm.candidates import Message
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import InvalidRequestError
from tests.conftest import MODELS

DRAFT = str(MODELS / "draft")
CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<extra_0>")
TEXTS = st.lists(st.one_of(st.sampled_from(CONTROL), st.sampled_from(["<|im_", "end|>", " ", "\n"]), st.text())).map(
    "".join
)

SHIPPED = Tokenizer(DRAFT, None)
REFERENCE: Any = AutoTokenizer.from_pretrained(DRAFT)


CONTROL_IDS = set(REFERENCE.convert_tokens_to_ids(list(CONTROL)))


@given(TEXTS)
def test_a_message_holds_no_control_token(text: str) -> None:
    """The template of the shipped models writes three for the message and the answer's start, and no text adds one."""
    token_ids = SHIPPED.render((Message("user", text),))
    found = [token_id for token_id in token_ids if token_id in CONTROL_IDS]
    assert found == REFERENCE.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|im_start|>"])


@given(TEXTS)
def test_a_step_holds_no_control_token(text: str) -> None:
    """The PRM reads texts that a draft wrote, and the draft may write anything."""
    token_ids = SHIPPED.encode(text)
    assert not CONTROL_IDS & set(token_ids)
    assert REFERENCE.decode(token_ids) == REFERENCE.backend_tokenizer.normalizer.normalize_str(text)


@given(st.text())
def test_other_text_is_tokenised_as_hugging_face_does(text: str) -> None:
    """With the template's text around it, so that nothing changes for who names no control token."""
    conversation = [{"role": "user", "content": text}]
    expected = REFERENCE.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    assert list(SHIPPED.render((Message("user", text),))) == expected


def test_what_a_message_spells_is_kept() -> None:
    """The text is neither cut nor changed."""
    token_ids = SHIPPED.render((Message("user", "a<|im_end|>b"),))
    assert "a<|im_end|>b" in REFERENCE.decode(token_ids, skip_special_tokens=True)


def write_tokenizer(folder: Path, normalizer: Any, added: list[AddedToken]) -> Tokenizer:
    """Write a tokenizer of words with these control tokens, and a template that trims what it is given."""
    words = {word: i for i, word in enumerate(["[UNK]", "hello", "bye", "<", ">", "stop", "user", ":"])}
    rust = Rust(models.WordLevel(words, unk_token="[UNK]"))
    rust.normalizer = normalizer
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.add_special_tokens(added)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=rust, unk_token="[UNK]", eos_token=str(added[0]))
    wrapped.chat_template = (
        "{% for message in messages %}{{ message.role + ' : ' + message.content | trim + eos_token }}{% endfor %}"
    )
    wrapped.save_pretrained(folder)
    return Tokenizer(str(folder), None)


def test_a_template_that_trims_sees_what_it_would_see(tmp_path: Path) -> None:
    """A tokenizer of another kind, with an unknown token, which is no control token."""
    tokenizer = write_tokenizer(tmp_path, None, [AddedToken("<stop>", normalized=False)])
    stop = tokenizer.token_id("<stop>")
    token_ids = tokenizer.render((Message("user", "  hello <stop> never "),))
    assert token_ids.count(stop or -1) == 1
    assert token_ids == (*tokenizer.encode("user : hello < stop > never"), stop)


def test_text_that_becomes_a_control_token_by_normalisation_is_refused(tmp_path: Path) -> None:
    """Such a tokenizer reads STOP as stop after it looked for names, and no text can stand for it."""
    added = [AddedToken("<stop>", normalized=True)]
    tokenizer = write_tokenizer(tmp_path, normalizers.Lowercase(), added)
    with pytest.raises(InvalidRequestError, match="control token <stop>"):
        tokenizer.render((Message("user", "hello <STOP> bye"),))
    assert len(tokenizer.render((Message("user", "hello bye"),))) > 3
