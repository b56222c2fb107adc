"""What is kept of a prefix that a model has read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

Tensor = torch.Tensor
TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix that was read: keys and values per layer [1, heads, length, head size], and the last outputs."""

    token_ids: TokenIds
    layers: Sequence[tuple[Tensor, Tensor]]
    last_outputs: Tensor  # [outputs]: logits over the vocabulary, or the outputs of a reward model

    @property
    def length(self) -> int:
        """The number of tokens."""
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        """The bytes of keys and values."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer)

    def cache(self, num_rows: int, length: int | None = None) -> DynamicCache:
        """Return a cache of num_rows views of the prefix, or of so many of its first tokens.

        The cache may grow; the prefix does not change.
        """
        shape = (num_rows, -1, -1, -1)
        layers = [tuple(tensor[:, :, :length].expand(shape) for tensor in layer) for layer in self.layers]
        return make_cache([(keys, values) for keys, values in layers])


def make_cache(layers: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Return a cache that begins with these keys and values, without a copy.

    Each of its layers keeps every token: a model's own cache may drop those outside a sliding window.
    """
    cache = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache
