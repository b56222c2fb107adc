"""A causal transformer that reads a prefix once and continues it in many rows: the base of both engines here."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from transformers import DynamicCache

from gsi.engines.base import EngineSettings, check_prefix
from gsi.engines.on_transformers.model_thread import ModelThread, Work
from gsi.engines.on_transformers.passes import Head, Part, Passes, Tensor, as_they_are
from gsi.engines.on_transformers.prefix import Prefix
from gsi.engines.on_transformers.prefix_cache import PrefixCache
from gsi.engines.on_transformers.shared_rows import SharedRows

T = TypeVar("T")


class PrefixModel:
    """A model on its own thread, and the prefixes that it has read.

    ``read`` and ``continue_rows`` are work for ``run``, or parts of such work. ``head`` makes logits from the outputs
    of a pass: the passes of a model have its head in them, those of layers with several heads do not.
    """

    def __init__(self, model: Any, max_length: int, settings: EngineSettings, head: Head = as_they_are) -> None:
        self.head = head
        self.max_length = max_length
        self.vocabulary_size: int = model.config.vocab_size
        self._kept = PrefixCache(settings.prefix_cache_bytes)
        self._passes = Passes(model, settings.device)
        self._is_exact = not settings.batching
        self._batches = settings.batching and self._passes.can_share
        self._thread = ModelThread(self._passes, batches=self._batches, num_threads=settings.num_threads)

    async def run(self, work: Work[T]) -> T:
        """Run ``work`` on the model's thread; return its result."""
        return await self._thread.run(work)

    def close(self) -> None:
        self._thread.close()

    async def read_prefix(self, token_ids: Sequence[int]) -> Prefix:
        """Run ``read``."""
        return await self.run(self.read(token_ids))

    def read(self, token_ids: Sequence[int]) -> Work[Prefix]:
        """Read a prefix, as far as no kept prefix begins so. Raises InvalidRequestError if ``check_prefix`` does."""
        check_prefix(token_ids, self.max_length, self.vocabulary_size)
        wanted = tuple(token_ids)
        kept, num_shared = self._kept.find(wanted)
        if kept is not None and kept.token_ids == wanted:
            return kept
        num_shared = min(num_shared, len(wanted) - 1)  # the last token is read in any case, for its outputs
        cache = DynamicCache() if kept is None else kept.cache(1, num_shared)
        part = Part(cache, [wanted[num_shared:]], only_last=True)
        yield part
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        prefix = Prefix(wanted, layers, part.outputs[0, -1].clone())  # a view would keep the outputs of the whole pass
        self._kept.keep(prefix)
        return prefix

    def continue_rows(self, cache: DynamicCache, rows: Sequence[Sequence[int]]) -> Work[Tensor]:
        """Read a row of token ids behind each row of the cache, which grows; return outputs [rows, longest, outputs].

        Rows are padded on the right: with causal attention no token sees the padding behind it.
        """
        part = Part(cache, rows)
        yield part
        return part.outputs

    def read_behind(self, prefix: Prefix, token_ids: Sequence[int]) -> Work[Tensor]:
        """Read tokens behind a prefix, which are not kept; return the outputs at the last of them, [outputs]."""
        if not token_ids:
            return prefix.last_outputs
        part = Part(prefix.cache(1), [list(token_ids)], only_last=True)
        yield part
        return part.outputs[0, -1]

    def split(self, candidates: Sequence[T]) -> Iterable[Sequence[T]]:
        """Return what a pass may read together: all, or each by itself where equal requests get equal bits.

        What came together depends on time, and the rounding of a row on how many rows its pass has.
        """
        return [[candidate] for candidate in candidates] if self._is_exact else [candidates]

    def begin_rows(self, prefix: Prefix, num_rows: int) -> DynamicCache | SharedRows:
        """Return a cache of rows behind a prefix that will grow token by token. Whoever ends with it frees it.

        A request that is alone has a cache of its own, which costs a fifth less time while it stays alone.
        """
        is_shared = self._batches and self._thread.num_requests > 1
        shared = self._passes.shared.join(prefix, num_rows) if is_shared else None
        return prefix.cache(num_rows) if shared is None else shared

    def select_rows(self, cache: DynamicCache | SharedRows, positions: Sequence[int]) -> None:
        """Keep only the rows at these positions."""
        if isinstance(cache, SharedRows):
            self._passes.shared.select(cache, positions)
        elif positions:
            cache.batch_select_indices(torch.tensor(positions))
