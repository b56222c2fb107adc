"""The tokenizer of draft, target and PRM: every word of the task is one token, and all other text is bytes.

It is a byte-level tokenizer without merges, built as transformers' own `Qwen2Tokenizer`, so `AutoTokenizer` and vLLM
can load it. The task's words are *added* tokens: the tokenizer finds them, longest first, before it splits the rest
into bytes. Any text survives: `decode(encode(text)) == text`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, Qwen2Tokenizer

from training.task import MAX_OPERATIONS, MODULUS, STEP_DELIMITER, STYLE_WORDS, Problem

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
STEP_REWARD = "<extra_0>"  # the token at which the PRM gives a step's reward
VOCABULARY_SIZE = 320  # 256 bytes and at most 64 words; a multiple of 64 is fast on tensor kernels
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
    """Return the byte-level symbol of each ASCII character (`Ċ` for a newline; most characters are unchanged)."""
    splitter = ByteLevel(add_prefix_space=False, use_regex=False)
    return {chr(code): splitter.pre_tokenize_str(chr(code))[0][0] for code in range(128)}


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
    """Return the token ids of pieces: the same ids as tokenizing their text, but much faster."""
    ids = piece_ids()
    return [ids[piece] for piece in pieces]


def decode_tokens(tokens: Iterable[int]) -> str:
    """Return the text of task tokens. A byte that is not an ASCII character becomes `?`."""
    pieces = _pieces_by_id()
    return "".join(pieces.get(token, "?") for token in tokens)


def prompt_tokens(problem: Problem) -> list[int]:
    """Return the token ids of a problem in the chat template, up to the start of the answer."""
    opening = [TURN_START, "user", "\n"]
    return encode_pieces([*opening, *problem.pieces, TURN_END, "\n", TURN_START, "assistant", "\n"])


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, and tokenizer_config.json with the chat template."""
    build_tokenizer().save_pretrained(folder, save_jinja_files=False)
