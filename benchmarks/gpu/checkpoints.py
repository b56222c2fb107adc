"""Checkpoints without weights: a configuration and a tokenizer, for vLLM's ``--load-format dummy``.

vLLM fills the weights with tiny random numbers, so every token is equally likely. The tokenizer is made so that steps
are still of different lengths: one of its tokens in ``STEP_TOKENS`` ends a step.
"""

import itertools
import json
import random
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer

from gsi.engines.hugging_face.reward_families import QWEN_PROCESS_REWARD
from gsi.engines.reward_profile import load_profile
from gsi.planning.architecture import Architecture, Role, find_architecture
from gsi.planning.published import PAPER_MODELS

MAX_LENGTH = 4096
STEP_TOKENS = 160  # the mean of a step before the cut: most of 16 candidates are cut, the others end before
STEP_MARK = load_profile("qwen2.5-math-prm").steps.mark_token
BEGIN, END, PADDING = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTROL = (BEGIN, END, PADDING, STEP_MARK)
TEMPLATE = (
    "{%- for message in messages %}{{- '" + BEGIN + "' + message.content + '" + END + "' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '" + BEGIN + "' }}{%- endif %}"
)
SPACE, NEW_LINE = "Ġ", "Ċ"  # as byte-level tokenizers write these bytes
NUM_BYTES = 256
FIRST_LETTERS = string.ascii_letters[:20]
# Draft, target and PRM get the target's vocabulary: of two sizes, random weights would write ids that only one has.
PAPER_VOCABULARY = find_architecture("target", PAPER_MODELS["target"]).vocab_size
TINY = Architecture("tiny", 64, 128, 2, 2, 2, 32, 2048, True, True)  # no smaller head runs on a CPU


def choose_sizes(*, is_rehearsal: bool) -> dict[Role, Architecture]:
    """Return the paper's models by role, or tiny ones."""
    names: Mapping[Role, str] = PAPER_MODELS
    return {role: TINY if is_rehearsal else find_architecture(role, name) for role, name in names.items()}


def write_checkpoints(folder: Path, sizes: Mapping[Role, Architecture]) -> Path:
    """Write a folder for each role; return the folder that holds them."""
    vocabulary = min(PAPER_VOCABULARY, max(size.vocab_size for size in sizes.values()))
    tokenizer = make_tokenizer(vocabulary)
    for role, size in sizes.items():
        own = folder / role
        own.mkdir(parents=True)
        tokenizer.save_pretrained(own)
        (own / "config.json").write_text(json.dumps(_describe(role, size, vocabulary)))
        # The services look for safetensors, and take no other weights. The loader for random weights opens no file.
        save_file({"unused": torch.zeros(1)}, own / "model.safetensors", metadata={"format": "pt"})
    return folder


def _describe(role: Role, size: Architecture, vocabulary: int) -> dict[str, object]:
    """Return a config.json of a Qwen2."""
    return {
        "architectures": [QWEN_PROCESS_REWARD if role == "prm" else "Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.num_hidden_layers,
        "num_attention_heads": size.num_attention_heads,
        "num_key_value_heads": size.num_key_value_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": size.tie_word_embeddings,
        "max_position_embeddings": MAX_LENGTH,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "eos_token_id": CONTROL.index(END),
        "pad_token_id": CONTROL.index(PADDING),
        "dtype": "bfloat16",
        "transformers_version": transformers.__version__,  # else a warning about tokenizers of older versions
    }


def make_tokenizer(size: int) -> Qwen2Tokenizer:
    """Return a byte-level tokenizer of ``size`` tokens: bytes, words of a space and letters, and ends of steps.

    A word is merged from left to right, letter by letter. Ends of steps are only written: a text has two tokens there.
    """
    first = [*CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = list(itertools.islice(_words(), size - len(first) - size // STEP_TOKENS))
    ends = [f"{word}{NEW_LINE * 2}" for word in words[: size - len(first) - len(words)]]
    vocabulary = {token: token_id for token_id, token in enumerate((*first, *words, *ends))}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[(word[:-1], word[-1]) for word in words],
        eos_token=END,
        pad_token=PADDING,
        unk_token=None,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [BEGIN, STEP_MARK]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _words() -> Iterator[str]:
    """Yield words, short ones first: each is a word that came before and a letter."""
    for length in itertools.count(1):
        yield from (SPACE + "".join(letters) for letters in itertools.product(string.ascii_letters, repeat=length))


def draw_text(rng: random.Random, num_tokens: int) -> str:
    """Return a text of ``num_tokens`` tokens: words of two letters, which a tokenizer of every size has."""
    return "".join(" " + "".join(rng.choices(FIRST_LETTERS, k=2)) for _ in range(num_tokens))


def draw_tokens(rng: random.Random, num_tokens: int) -> list[int]:
    """Return ids of words of one letter."""
    first = len(CONTROL) + NUM_BYTES
    return [rng.randrange(first, first + len(string.ascii_letters)) for _ in range(num_tokens)]
