"""A fingerprint of a checkpoint's files, which tells two checkpoints of one name apart without reading all of either.

What it covers: the whole of the small files that decide how a model reads and writes (``READ_WHOLE``: configuration,
tokenizer, chat template); of each file of weights its size and its header, which has the name, type and shape of every
tensor; and of each tensor the first and the last ``SAMPLE_BYTES``. A model that was trained further, quantised or
replaced has another fingerprint. Two checkpoints have the same one if they differ only inside tensors, beyond the
samples: it finds mistakes, and is no proof against somebody who makes a forgery.

A checkpoint of 7 B parameters has about 340 tensors, so 3 MB are read of its 15 GB.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

INDEX = "model.safetensors.index.json"
SAMPLE_BYTES = 4096  # a page: the least that a disk reads
LENGTH_BYTES = 8  # of a safetensors header, little-endian, at the start of the file
READ_WHOLE = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def fingerprint_checkpoint(model: str, revision: str | None) -> str:
    """Return the SHA-256 of a checkpoint, in hexadecimal; "" if its files are not on this machine.

    ``model`` is a folder, or a name on the Hub whose files lie in the local cache. Nothing is downloaded.
    """
    folder = _find_folder(model, revision)
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for part in _list_parts(folder):
        digest.update(len(part).to_bytes(8, "little"))  # so that two parts are not taken for one
        digest.update(part)
    return digest.hexdigest()


def _find_folder(model: str, revision: str | None) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return None


def _list_parts(folder: Path) -> Iterator[bytes]:
    for name in READ_WHOLE:
        if (folder / name).is_file():
            yield name.encode()
            yield (folder / name).read_bytes()
    for path in list_weights(folder):
        with path.open("rb") as file:
            yield from _sample(file, path)


def list_weights(folder: Path) -> list[Path]:
    """Return the files that the index names, or all: a folder may hold a copy in another format beside them."""
    index = folder / INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    return [folder / name for name in sorted(set(json.loads(index.read_bytes())["weight_map"].values()))]


def _sample(file: BinaryIO, path: Path) -> Iterator[bytes]:
    yield path.name.encode()
    yield path.stat().st_size.to_bytes(8, "little")
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    header = file.read(length)
    yield header
    tensors = json.loads(header)
    for _, tensor in sorted(item for item in tensors.items() if item[0] != "__metadata__"):
        start, end = (LENGTH_BYTES + length + offset for offset in tensor["data_offsets"])
        for place in (start, max(start, end - SAMPLE_BYTES)):
            file.seek(place)
            yield file.read(min(SAMPLE_BYTES, end - place))
