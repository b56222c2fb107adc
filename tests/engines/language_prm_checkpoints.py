"""Tiny random checkpoints of PRMs that are language models or token classifiers, with the reward by the authors' way.

Each has a tokenizer of its family's kind: Math-Shepherd's puts a space before a text, as Mistral's does; RLHFlow's
reads bytes and has the turns of Llama 3. What the authors' code does is written anew here, on Hugging Face alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, STEPS, reference
from tests.engines.reward_checkpoints import Values, write_checkpoint

CORPUS = [
    MESSAGES[0].content,
    *STEPS,
    "Step 1: The answer is \\boxed{20} ки\nStep 2: 38 - 18 = 20 + 0 ки",
    "+ - +",
    "- + -",
]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "initializer_range": 0.5,  # rewards that differ
}
WORDS_OF_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TURNS_OF_LLAMA = (  # with the date line of the system turn that Llama 3.1's own template writes
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}"
    "<|eot_id|>{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def sentencepiece_tokenizer() -> Any:
    """Return a tokenizer of Mistral's kind: a space before any text, "▁" for spaces, bytes for what it has not seen."""
    raw = RawTokenizer(BPE(byte_fallback=True, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    words = [word for text in CORPUS for line in text.splitlines() for word in line.replace(" ", " ▁").split(" ")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*special, *bytes_], show_progress=False)
    raw.normalizer, kept = None, raw.normalizer
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.train_from_iterator([" ".join(words)], trainer)
    raw.normalizer, raw.pre_tokenizer = kept, None
    state = json.loads(raw.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]  # bytes are text
    tokenizer = RawTokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama_tokenizer() -> Any:
    """Return a tokenizer of Llama 3's kind: bytes, and its turns."""
    raw = RawTokenizer(BPE())
    split = pre_tokenizers.Split(Regex(WORDS_OF_LLAMA), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([*CORPUS, "\n\n", "assistant\n\nuser\n\nsystem\n\n"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=special[0], eos_token=special[1])
    tokenizer.add_special_tokens({"additional_special_tokens": special[2:]})
    tokenizer.chat_template = TURNS_OF_LLAMA
    return tokenizer


def math_shepherd(folder: Path) -> tuple[Path, Values]:
    """Write a Mistral that answers + or -; read problem, a space, and the steps with " ки" behind each, a line each."""
    tokenizer = sentencepiece_tokenizer()
    torch.manual_seed(1)
    model = MistralForCausalLM(MistralConfig(vocab_size=len(tokenizer), sliding_window=None, **SIZES)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    plus, minus = (tokenizer.encode(sign, add_special_tokens=False)[-1] for sign in "+-")
    mark = tokenizer.encode("ки", add_special_tokens=False)[-1]

    def value(text: str) -> float:
        output = "\n".join(f"{step.strip()} ки" for step in (*STEPS, text))
        token_ids = [
            tokenizer.bos_token_id,
            *tokenizer.encode(f"{MESSAGES[0].content} {output}", add_special_tokens=False),
        ]
        with torch.inference_mode():
            scores = model(torch.tensor([token_ids])).logits[0][:, [plus, minus]].softmax(dim=-1)[:, 0]
        return float(scores[torch.tensor(token_ids) == mark][-1])

    return folder, value


def write_llama(folder: Path) -> Callable[[list[str]], float]:
    """Write a Llama that answers + or - to turns; return the share of + in its last answer, at the third last token."""
    tokenizer = llama_tokenizer()
    torch.manual_seed(2)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    signs = [tokenizer.encode(sign)[-1] for sign in "+-"]

    def value(turns: list[str]) -> float:
        messages: list[dict[str, str]] = []
        for turn in turns:
            messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "+"}]
        token_ids = tokenizer.apply_chat_template(messages, return_dict=False)
        with torch.inference_mode():
            logits = model(torch.tensor([token_ids])).logits[0, -3, signs]
        return float(logits.softmax(dim=-1)[0])

    return value


def rlhflow(folder: Path) -> tuple[Path, Values]:
    """Write RLHFlow's PRM: each step is a turn, the first one behind the problem and a space."""
    value = write_llama(folder)

    def value_of_last(text: str) -> float:
        first, *others = (step.strip() for step in (*STEPS, text))
        return value([f"{MESSAGES[0].content} {first}", *others])

    return folder, value_of_last


def rlhflow_orm(folder: Path) -> tuple[Path, Values]:
    """Write RLHFlow's outcome model: problem, a space and the whole answer are one turn."""
    value = write_llama(folder)
    return folder, lambda text: value([f"{MESSAGES[0].content} {''.join(STEPS)}{text.strip()}"])


def token_classifier(folder: Path) -> tuple[Path, Values]:
    """Write a token classifier of TRL's: problem and steps tokenised by themselves, a newline behind each step."""
    _, tokenizer = reference("prm")
    torch.manual_seed(3)
    config = Qwen2Config.from_pretrained(MODELS / "prm")
    config.num_labels = 2
    model = Qwen2ForTokenClassification(config).float().eval()
    torch.nn.init.normal_(model.score.weight)
    torch.nn.init.normal_(model.score.bias)
    labels = {"0": "LABEL_0", "1": "LABEL_1"}
    path = write_checkpoint(folder, "Qwen2ForTokenClassification", model.state_dict(), id2label=labels)

    def value(text: str) -> float:
        token_ids = list(tokenizer(MESSAGES[0].content)["input_ids"])
        for step in (*STEPS, text):
            token_ids += [*tokenizer(step.rstrip("\n"))["input_ids"], *tokenizer("\n")["input_ids"]]
        with torch.inference_mode():
            logits = model(torch.tensor([token_ids])).logits[0, -1]
        return float(logits.softmax(dim=-1)[1])

    return path, value
