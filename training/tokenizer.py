"""The tokenizer of draft, target and PRM: every word of the task is one token, and all other text is bytes.

It is a byte-level tokenizer without merges, built as transformers' own `Qwen2Tokenizer`, so `AutoTokenizer` and vLLM
can load it. The task's words are *added* tokens: the tokenizer finds them, longest first, before it splits the rest
into bytes. Any text survives: `decode(encode(text)) == text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, Qwen2Tokenizer

from training.task import Problem
from training.words import WORDS

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ASSISTANT = "assistant"  # the role whose turn a solution is
STEP_REWARD = "<extra_0>"  # the token at which the PRM gives a step's reward
VOCABULARY_SIZE = 448  # 256 bytes and at most 192 words; a multiple of 64 is fast on tensor kernels
MAX_POSITIONS = 512

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@cache
def build_tokenizer() -> Qwen2Tokenizer:
    """Build the tokenizer. Token ids depend only on this file and the task's words."""
    symbols = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(
        vocab=symbols,
        merges=[],
        unk_token=None,
        eos_token=TURN_END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    # Not `extra_special_tokens`: transformers 4 and 5 write that field differently, and each rejects the other's
    # format.
    markers = [AddedToken(marker, normalized=False, special=True) for marker in (TURN_START, STEP_REWARD)]
    tokenizer.add_tokens(markers, special_tokens=True)
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in WORDS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def token_ids() -> dict[str, int]:
    """Return the token id of every word and special token."""
    ids: dict[str, int] = build_tokenizer().get_added_vocab()
    return ids


def encode(texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text."""
    ids: list[list[int]] = build_tokenizer()(list(texts), add_special_tokens=False).input_ids
    return ids


def decode(tokens: Iterable[int]) -> str:
    """Return the text of tokens."""
    text: str = build_tokenizer().decode(list(tokens))
    return text


@cache
def _pieces() -> list[str]:
    return [decode([token]) for token in range(VOCABULARY_SIZE)]


def decode_each(tokens: Iterable[int]) -> list[str]:
    """Return the text of each token. A byte that is no character alone has a text that no right step holds."""
    return [_pieces()[token] for token in tokens]


def chat_text(prompt: str) -> str:
    """Return a prompt in the chat template, up to the start of the answer."""
    return f"{TURN_START}user\n{prompt}{TURN_END}\n{TURN_START}assistant\n"


def prompt_text(problem: Problem) -> str:
    """Return a problem in the chat template, up to the start of the answer."""
    return chat_text(problem.prompt)


def prompt_tokens(problem: Problem) -> list[int]:
    """Return the token ids of a problem in the chat template, up to the start of the answer."""
    return encode([prompt_text(problem)])[0]


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, and tokenizer_config.json with the chat template."""
    build_tokenizer().save_pretrained(folder, save_jinja_files=False)
