"""A linear merge of a language model and a reward model: one set of layers, two heads (RSD paper, section B.3).

The paper: "We merge only the shared layers, retaining the PRM's projection layer and the policy model's `lm_head`."
The result is two checkpoints whose layers are equal to the last bit, each with its own head, configuration and
tokenizer, so that every engine serves them as it serves others. Tensors are read and written one file at a time.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer

from gsi.engines.hugging_face.fingerprint import INDEX, fingerprint_checkpoint, list_weights
from gsi.engines.hugging_face.weights import SUFFIX, refuse_pickles
from gsi.errors import MisconfiguredError

SHARED = "model."  # how the names of the layers begin, in front of which each class puts its own head
EMBEDDING = "embed_tokens.weight"
HEAD = "lm_head.weight"
# What must be equal, as transformers reads a config.json of any age.
ARCHITECTURE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "layer_types",
)
NOT_COPIED = {SUFFIX, ".bin", ".pt", ".pth", ".py", ".md"}


@dataclass(frozen=True, slots=True)
class Merge:
    """What is merged: ``weight`` is the language model's share, above 0 and below 1, the reward model has the rest."""

    language: Path
    reward: Path
    weight: float


def merge(sources: Merge, out: Path, role: str = "target") -> None:
    """Write ``out/<role>``, the language model, and ``out/prm``, the reward model, with the merged layers, and a card.

    Raises MisconfiguredError for checkpoints that cannot be merged, and for an ``out`` that is there.
    """
    if not 0 < sources.weight < 1:
        raise MisconfiguredError(f"weight is {sources.weight:g}; allowed: a number above 0 and below 1")
    if out.exists():
        raise MisconfiguredError(f"{out} exists; allowed: a folder that is not there yet")
    language, reward = Weights(sources.language), Weights(sources.reward)
    _check_architectures(sources)
    own_tokens = _find_own_tokens(sources)
    shared = _find_shared(language, reward)

    def blend(name: str) -> torch.Tensor:
        one, other = language.read(name), reward.read(name)
        mixed = (sources.weight * one.float() + (1 - sources.weight) * other.float()).to(one.dtype)
        if name.endswith(EMBEDDING) and own_tokens:
            mixed[own_tokens] = other[own_tokens].to(one.dtype)
        return mixed

    for weights, name in ((language, role), (reward, "prm")):
        _write(weights, out / name, shared, blend)
    (out / "README.md").write_text(_write_card(sources, out, role))


class Weights:
    """The tensors of a checkpoint in a folder, read one at a time."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise MisconfiguredError(f"{folder} has no config.json; allowed: a folder with a checkpoint")
        refuse_pickles(str(folder), None)
        self.folder = folder
        self.names = {path: tuple(_read_names(path)) for path in list_weights(folder)}
        self._files = {name: path for path, names in self.names.items() for name in names}

    @property
    def shared(self) -> set[str]:
        return {name for name in self._files if name.startswith(SHARED)}

    @property
    def config(self) -> dict[str, Any]:
        """The config.json as it stands."""
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return found

    @property
    def has_tied_head(self) -> bool:
        """Whether the last layer of a language model is its embedding, and no tensor of its own."""
        (architecture, *_) = self.config.get("architectures") or [""]
        return str(architecture).endswith("ForCausalLM") and HEAD not in self._files

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def _read_names(path: Path) -> Iterator[str]:
    with safe_open(path, framework="pt") as file:
        yield from file.keys()


def _check_architectures(sources: Merge) -> None:
    one, other = (_read_architecture(folder) for folder in (sources.language, sources.reward))
    for field, value in one.items():
        if value != other[field]:
            raise MisconfiguredError(
                f"{field}: {value} in {sources.language}, {other[field]} in {sources.reward}; "
                "allowed: two checkpoints of one architecture"
            )


def _read_architecture(folder: Path) -> dict[str, Any]:
    read = AutoConfig.from_pretrained(folder).to_dict()
    size = read.get("head_dim") or read["hidden_size"] // read["num_attention_heads"]  # which config.json may leave out
    return {**{field: read.get(field) for field in ARCHITECTURE}, "head_dim": size}


def _find_own_tokens(sources: Merge) -> list[int]:
    """Return the ids of the tokens that only the reward model knows, such as its mark behind a step.

    Raises MisconfiguredError if a token has another id in it: the rows of the embeddings would be of different tokens.
    """
    known, others = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (sources.language, sources.reward))
    for token, token_id in known.items():
        if others.get(token) != token_id:
            raise MisconfiguredError(
                f"token {token!r} is {token_id} in {sources.language}, and {others.get(token, 'no token')} in "
                f"{sources.reward}; allowed: a reward model with the language model's tokens, and more"
            )
    return sorted(token_id for token, token_id in others.items() if token not in known)


def _find_shared(language: Weights, reward: Weights) -> set[str]:
    different = sorted(language.shared ^ reward.shared)
    if different or not language.shared:
        what = different[0] if different else SHARED
        raise MisconfiguredError(
            f"{what} is not in both {language.folder} and {reward.folder}; allowed: checkpoints with the same layers"
        )
    for name in sorted(language.shared):
        one, other = language.read(name), reward.read(name)
        if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
            raise MisconfiguredError(
                f"{name}: {one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}; "
                "allowed: numbers of one shape that are not quantised"
            )
    return language.shared


def _write(weights: Weights, folder: Path, shared: set[str], blend: Any) -> None:
    """Write a checkpoint with the merged layers, in as many files, and its own head."""
    folder.mkdir(parents=True)
    for file in weights.folder.iterdir():
        if file.is_file() and file.suffix not in NOT_COPIED and file.name != INDEX:
            shutil.copy(file, folder)
    places: dict[str, str] = {}
    for path, names in weights.names.items():
        tensors = {name: blend(name) if name in shared else weights.read(name) for name in names}
        if weights.has_tied_head and any(name.endswith(EMBEDDING) for name in names):
            (embedding,) = (name for name in names if name.endswith(EMBEDDING))
            tensors[HEAD] = weights.read(embedding)  # the head stays as it was, the embedding does not
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, path.name)
    if len(weights.names) > 1:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}, indent=2))
    if weights.has_tied_head:
        config = {**weights.config, "tie_word_embeddings": False}
        (folder / "config.json").write_text(json.dumps(config, indent=2))


def _write_card(sources: Merge, out: Path, role: str) -> str:
    parts = {
        "language model": (sources.language, f"{sources.weight:g}"),
        "reward model": (sources.reward, f"{1 - sources.weight:g}"),
        f"merged {role}": (out / role, ""),
        "merged prm": (out / "prm", ""),
    }
    rows = [
        f"| {what} | {p.name} | {share} | {fingerprint_checkpoint(str(p), None)} |"
        for what, (p, share) in parts.items()
    ]
    return "\n".join(
        [
            "# Merged models",
            "",
            "Two checkpoints with the same layers, a linear merge, and the head of each model that was merged. The",
            "embedding of a token that only the reward model knows is the reward model's.",
            "",
            "| | folder | weight | fingerprint |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
