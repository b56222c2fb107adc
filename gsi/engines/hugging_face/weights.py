"""Weights are read from safetensors alone: a pickle is a program, which reading it would run."""

import json
from pathlib import Path

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file

from gsi.errors import MisconfiguredError

SUFFIX = ".safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
CONVERSION = "convert a checkpoint that you trust: docs/security.md#checkpoints-and-payloads"


def refuse_pickles(model: str, revision: str | None) -> None:
    """Raise MisconfiguredError if a checkpoint has no safetensors, or an index that names other files.

    A folder is listed, and nothing in it is loaded. Of a name on the Hub only the index is read: the runtime asks the
    Hub for safetensors, and fails if there are none.
    """
    folder = Path(model)
    if folder.is_dir() and not any(folder.glob(f"*{SUFFIX}")):
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
        found = ", ".join(pickles) or "no weights"
        raise MisconfiguredError(f"model: {model} has no *{SUFFIX}, but {found}; allowed: safetensors; {CONVERSION}")
    index = cached_file(
        model,
        SAFE_WEIGHTS_INDEX_NAME,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,  # without a network the cache has what there is
    )
    if index is None:
        return
    files = json.loads(Path(index).read_text())["weight_map"].values()
    if others := sorted({name for name in files if not name.endswith(SUFFIX)}):
        raise MisconfiguredError(f"model: the index of {model} names {others[0]}; allowed: *{SUFFIX}; {CONVERSION}")
