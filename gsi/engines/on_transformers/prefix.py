"""A causal transformer that reads a prefix once and continues it in many rows: what both torch engines stand on."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import torch
from transformers import DynamicCache

from gsi.engines.base import EngineSettings, check_prefix
from gsi.errors import MisconfiguredError

Tensor = torch.Tensor
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix that has been read: keys and values per layer [1, heads, length, head size], and its last outputs."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    last_outputs: Tensor  # [outputs]: logits over the vocabulary, or what a reward model gives
    length: int  # tokens

    def cache(self, num_rows: int) -> DynamicCache:
        """Return a cache of num_rows views on this prefix; growing it leaves the prefix as it is."""
        shape = (num_rows, -1, -1, -1)
        return DynamicCache(ddp_cache_data=[(k.expand(shape), v.expand(shape)) for k, v in self.layers])


def load_checkpoint(kind: Any, settings: EngineSettings) -> Any:
    """Load a checkpoint as a model of ``kind``. Raises MisconfiguredError if weights are missing from it.

    The library would fill them with random numbers, and a language model would serve as a PRM that guesses.
    """
    model, report = kind.from_pretrained(
        settings.model, revision=settings.revision, dtype=getattr(torch, settings.dtype), output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise MisconfiguredError(f"{settings.model} is no {kind.__name__}: it lacks {', '.join(missing[:3])}")
    return model


class PrefixModel:
    """A model on a thread of its own, which does all its work in the order in which it is asked for.

    Requests take turns call by call, so a long one does not hold up a short one, and a request that is cancelled
    costs no more than the call in flight.
    """

    def __init__(self, model: Any, max_length: int, device: str, num_threads: int | None) -> None:
        self._model = model.to(device).eval()
        self._device = device
        self.max_length = max_length
        self.vocabulary_size: int = model.config.vocab_size
        prepare = partial(torch.set_num_threads, num_threads) if num_threads else None  # OpenMP counts per thread
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model", initializer=prepare)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` on the model's thread."""
        with_args = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, with_args)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def read(self, token_ids: Sequence[int]) -> Prefix:
        """Read a prefix. Raises InvalidRequestError if it is empty, too long, or not of this vocabulary."""
        check_prefix(token_ids, self.max_length, self.vocabulary_size)
        cache = DynamicCache()  # the model's own would drop what a sliding window has passed, and be shorter than said
        outputs = self._model(input_ids=self._tensor([token_ids]), past_key_values=cache, use_cache=True)
        layers = tuple((layer.keys, layer.values) for layer in outputs.past_key_values.layers)
        return Prefix(layers, outputs.logits[0, -1], len(token_ids))

    @torch.inference_mode()
    def continue_rows(self, cache: DynamicCache, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read one row of token ids after each row of the cache; return outputs [rows, longest row, outputs].

        Rows are padded on the right: with causal attention no token sees a pad behind it. Grows the cache.
        """
        longest = max(map(len, rows))
        padded = [list(row) + [0] * (longest - len(row)) for row in rows]
        outputs: Tensor = self._model(input_ids=self._tensor(padded), past_key_values=cache, use_cache=True).logits
        return outputs

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._device)
