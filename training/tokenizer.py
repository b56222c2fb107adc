"""The tokenizer that draft, target and PRM share: every word of the task is one token, all other text is bytes.

It is a byte-level tokenizer without merges, which is what transformers' own `Qwen2Tokenizer` builds, so `AutoTokenizer`
and vLLM load it as it is. The words of the task are *added* tokens: they are found, longest first, before bytes are.
So any text survives: `decode(encode(text)) == text`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, Qwen2Tokenizer

from training.task import MAX_OPERATIONS, MODULUS, STEP_DELIMITER, STYLE_WORDS, Problem

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
STEP_REWARD = "<extra_0>"  # the PRM's reward of a step is read at this token
VOCABULARY_SIZE = 320  # 256 bytes and at most 64 words; a multiple of 64, as tensor kernels like it
MAX_POSITIONS = 512

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

_WORDS = (
    STEP_DELIMITER,
    *("system", "user", "assistant"),
    *("Start with ", ". ", f"Work mod {MODULUS}."),
    *(f"Step {index}: " for index in range(1, MAX_OPERATIONS + 3)),
    *STYLE_WORDS,
    *(" + ", " - ", " * ", " = "),
    *("The answer is ", "\\boxed{"),
    *(str(number) for number in range(10, MODULUS + 1)),
)


@cache
def _byte_symbols() -> dict[str, str]:
    """Return how byte-level tokenizers write each ASCII character (a newline as `Ċ`, most as themselves)."""
    splitter = ByteLevel(add_prefix_space=False, use_regex=False)
    return {chr(code): splitter.pre_tokenize_str(chr(code))[0][0] for code in range(128)}


@cache
def build_tokenizer() -> Qwen2Tokenizer:
    """Build the tokenizer; token ids depend on nothing but this file and the task's words."""
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
    # Not `extra_special_tokens`: transformers 4 and 5 write that field differently, and each rejects the other's.
    markers = [AddedToken(marker, normalized=False, special=True) for marker in (TURN_START, STEP_REWARD)]
    tokenizer.add_tokens(markers, special_tokens=True)
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in _WORDS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def piece_ids() -> dict[str, int]:
    """Return the token id of every word, special token and ASCII character."""
    vocabulary: dict[str, int] = build_tokenizer().get_vocab()
    words: dict[str, int] = build_tokenizer().get_added_vocab()
    characters = {character: vocabulary[symbol] for character, symbol in _byte_symbols().items()}
    return characters | words


@cache
def _pieces_by_id() -> dict[int, str]:
    return {token: piece for piece, token in piece_ids().items()}


def encode_pieces(pieces: Iterable[str]) -> list[int]:
    """Return the token ids of text that is already cut; much faster than cutting it, and the same ids."""
    ids = piece_ids()
    return [ids[piece] for piece in pieces]


def decode_tokens(tokens: Iterable[int]) -> str:
    """Return the text of task tokens; a byte that is no ASCII character becomes `?`."""
    pieces = _pieces_by_id()
    return "".join(pieces.get(token, "?") for token in tokens)


def prompt_tokens(problem: Problem) -> list[int]:
    """Return the token ids of a problem in the chat template, up to where the answer begins."""
    opening = [TURN_START, "user", "\n"]
    return encode_pieces([*opening, *problem.pieces, TURN_END, "\n", TURN_START, "assistant", "\n"])


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, the chat template inside."""
    build_tokenizer().save_pretrained(folder, save_jinja_files=False)
