"""A model as a planner sees it: how many bytes and FLOPs a token costs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gsi.errors import InvalidRequestError
from gsi.suggestions import list_names

Role = Literal["draft", "target", "prm"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a dense decoder-only transformer with a gated MLP, by the names of its ``config.json``.

    ``is_reward``: the model ends in a small reward head, so that no pass multiplies by the vocabulary.
    """

    name: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    vocab_size: int
    tie_word_embeddings: bool
    has_attention_bias: bool
    is_reward: bool = False

    @property
    def num_block_parameters(self) -> int:
        """Return the parameters of all layers: those that every token is multiplied by."""
        queries = self.num_attention_heads * self.head_size
        keys_and_values = 2 * self.num_key_value_heads * self.head_size
        attention = self.hidden_size * (2 * queries + keys_and_values)
        bias = (queries + keys_and_values) if self.has_attention_bias else 0
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (attention + bias + mlp + 2 * self.hidden_size) + self.hidden_size

    @property
    def num_head_parameters(self) -> int:
        """Return the parameters that a token is multiplied by where its output is wanted: logits, or a reward."""
        return (self.hidden_size + 2) * self.hidden_size if self.is_reward else self.vocab_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """Return the parameters that are stored: layers, embedding, and a head of its own unless that is tied."""
        embedding = self.vocab_size * self.hidden_size
        is_tied = self.tie_word_embeddings and not self.is_reward
        return self.num_block_parameters + embedding + (0 if is_tied else self.num_head_parameters)

    @property
    def num_values_read(self) -> int:
        """Return the parameters that a pass reads: all but the rows of the embedding that it does not look up."""
        return self.num_block_parameters + self.num_head_parameters

    @property
    def num_kv_values(self) -> int:
        """Return the numbers that the KV cache keeps for a token: a key and a value per layer and head."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_size

    def count_flops(self, context: float) -> float:
        """Return the FLOPs of one token behind ``context`` tokens, without its output.

        Two for each parameter (RSD, section 3.3, and Kaplan et al., 2020, section 2.1), and attention: two for each
        query's product with a key, and two for each sum over values.
        """
        attention = 4 * self.num_hidden_layers * self.num_attention_heads * self.head_size * context
        return 2 * self.num_block_parameters + attention

    @property
    def flops_per_output(self) -> float:
        """Return the FLOPs of one token's output."""
        return 2 * self.num_head_parameters


def _qwen2(
    name: str, hidden: int, mlp: int, layers: int, heads: tuple[int, int], vocab: int, *, tied: bool
) -> Architecture:
    return Architecture(name, hidden, mlp, layers, heads[0], heads[1], hidden // heads[0], vocab, tied, True)


def _llama(name: str, hidden: int, mlp: int, layers: int, heads: tuple[int, int], *, tied: bool) -> Architecture:
    return Architecture(name, hidden, mlp, layers, heads[0], heads[1], hidden // heads[0], 128_256, tied, False)


def _qwen3(name: str, hidden: int, mlp: int, layers: int, heads: tuple[int, int], *, tied: bool) -> Architecture:
    """Return a dense Qwen3: its heads have size 128. Their norms, of 256 numbers a layer, are left out."""
    return Architecture(name, hidden, mlp, layers, heads[0], heads[1], 128, 151_936, tied, False)


# The models of both papers' tables and of the profiles, from the config.json of each checkpoint on Hugging Face.
NAMED: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        _qwen2("Qwen2.5-Math-1.5B", 1536, 8960, 28, (12, 2), 151_936, tied=True),
        _qwen2("Qwen2.5-Math-7B", 3584, 18_944, 28, (28, 4), 152_064, tied=False),
        _qwen2("Qwen2.5-Math-72B", 8192, 29_568, 80, (64, 8), 152_064, tied=False),
        _qwen2("Qwen2.5-0.5B", 896, 4864, 24, (14, 2), 151_936, tied=True),
        _qwen2("Qwen2.5-1.5B", 1536, 8960, 28, (12, 2), 151_936, tied=True),
        _qwen2("Qwen2.5-3B", 2048, 11_008, 36, (16, 2), 151_936, tied=True),
        _qwen2("Qwen2.5-7B", 3584, 18_944, 28, (28, 4), 152_064, tied=False),
        _qwen2("Qwen2.5-14B", 5120, 13_824, 48, (40, 8), 152_064, tied=False),
        _qwen2("Qwen2.5-32B", 5120, 27_648, 64, (40, 8), 152_064, tied=False),
        _qwen2("Qwen2.5-72B", 8192, 29_568, 80, (64, 8), 152_064, tied=False),
        _llama("Llama-3.2-1B", 2048, 8192, 16, (32, 8), tied=True),
        _llama("Llama-3.2-3B", 3072, 8192, 28, (24, 8), tied=True),
        _llama("Llama-3.1-8B", 4096, 14_336, 32, (32, 8), tied=False),
        _llama("Llama-3.1-70B", 8192, 28_672, 80, (64, 8), tied=False),
        _qwen3("Qwen3-0.6B", 1024, 3072, 28, (16, 8), tied=True),
        _qwen3("Qwen3-1.7B", 2048, 6144, 28, (16, 8), tied=True),
        _qwen3("Qwen3-4B", 2560, 9728, 36, (32, 8), tied=True),
        _qwen3("Qwen3-8B", 4096, 12_288, 36, (32, 8), tied=False),
        _qwen3("Qwen3-14B", 5120, 17_408, 40, (40, 8), tied=False),
        _qwen3("Qwen3-32B", 5120, 25_600, 64, (64, 8), tied=False),
        _qwen2("Qwen2.5-Math-PRM-7B", 3584, 18_944, 28, (28, 4), 152_064, tied=False),
        _qwen2("Qwen2.5-Math-PRM-72B", 8192, 29_568, 80, (64, 8), 152_064, tied=False),
        _qwen2("Skywork-o1-Open-PRM-Qwen-2.5-1.5B", 1536, 8960, 28, (12, 2), 151_936, tied=True),
        _qwen2("Skywork-o1-Open-PRM-Qwen-2.5-7B", 3584, 18_944, 28, (28, 4), 152_064, tied=False),
    )
}


def find_architecture(role: Role, given: str) -> Architecture:
    """Return the architecture of a named model, or of a folder or file with a ``config.json``, in its role.

    An organisation in front of the name and ``-Instruct`` behind it make no difference. Raises InvalidRequestError that
    names the role's option.
    """
    return replace(_find_architecture(f"--{role}", given), is_reward=role == "prm")


def _find_architecture(option: str, given: str) -> Architecture:
    path = Path(given)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        return read_config(option, file)
    short = given.rpartition("/")[2].removesuffix("-Instruct")
    found = next((one for name, one in NAMED.items() if name.lower() == short.lower()), None)
    if found is None:
        raise InvalidRequestError(
            f"{option}: {given} is not allowed; allowed: a folder with config.json, or one of "
            + list_names(short, NAMED)
        )
    return found


def read_config(option: str, file: Path) -> Architecture:
    """Read a ``config.json`` of Hugging Face. Raises InvalidRequestError that names option and field."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{option}: {file} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise InvalidRequestError(f"{option}: {file} is no JSON object; allowed: a config.json of Hugging Face")
    if experts := [name for name in config if "expert" in name]:
        raise InvalidRequestError(f"{option}: {file} has {experts[0]}; allowed: dense models")
    heads, hidden = (_read_size(option, file, config, name) for name in ("num_attention_heads", "hidden_size"))
    defaults = {"num_key_value_heads": heads, "head_dim": hidden // heads}
    given = config | {name: config.get(name) or default for name, default in defaults.items()}
    return Architecture(
        name=file.parent.name,
        hidden_size=hidden,
        intermediate_size=_read_size(option, file, config, "intermediate_size"),
        num_hidden_layers=_read_size(option, file, config, "num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_read_size(option, file, given, "num_key_value_heads", at_most=heads),
        head_size=_read_size(option, file, given, "head_dim", at_most=hidden),
        vocab_size=_read_size(option, file, config, "vocab_size"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        has_attention_bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
    )


def _read_size(option: str, file: Path, config: Mapping[str, Any], name: str, at_most: int = 10**9) -> int:
    value = config.get(name)
    if not isinstance(value, int) or not 1 <= value <= at_most:
        raise InvalidRequestError(f"{option}: {name} is {value} in {file}; allowed: 1 to {at_most:,}")
    return value
