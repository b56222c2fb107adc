"""A causal transformer that reads a prefix once and continues it in many rows: the base of both engines here."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import torch
from transformers import DynamicCache

from gsi.engines.base import EngineSettings, check_prefix
from gsi.engines.hugging_face.weights import refuse_pickles
from gsi.errors import MisconfiguredError

Tensor = torch.Tensor
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix that was read: keys and values per layer [1, heads, length, head size], and the last outputs."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    last_outputs: Tensor  # [outputs]: logits over the vocabulary, or the outputs of a reward model
    length: int  # tokens

    def cache(self, num_rows: int) -> DynamicCache:
        """Return a cache of num_rows views of this prefix. The cache may grow; the prefix does not change."""
        shape = (num_rows, -1, -1, -1)
        return DynamicCache(ddp_cache_data=[(k.expand(shape), v.expand(shape)) for k, v in self.layers])


def load_checkpoint(kind: Any, settings: EngineSettings) -> Any:
    """Load a checkpoint as a model of ``kind``, from safetensors alone.

    Raises MisconfiguredError if the checkpoint lacks weights, or has them as pickles. transformers fills missing
    weights with random numbers: a language model would serve as a PRM and give noise.
    """
    refuse_pickles(settings.model, settings.revision)
    model, report = kind.from_pretrained(
        settings.model,
        revision=settings.revision,
        dtype=getattr(torch, settings.dtype),
        use_safetensors=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise MisconfiguredError(f"{settings.model} is no {kind.__name__}: it lacks {', '.join(missing[:3])}")
    return model


class PrefixModel:
    """A model on its own thread, which runs calls in the order in which they are made.

    Requests take turns call by call, so a long request does not hold up a short one, and a cancelled request costs no
    more than its call in flight.
    """

    def __init__(self, model: Any, max_length: int, device: str, num_threads: int | None) -> None:
        self._model = model.to(device).eval()
        self._device = device
        self.max_length = max_length
        self.vocabulary_size: int = model.config.vocab_size
        prepare = partial(torch.set_num_threads, num_threads) if num_threads else None  # OpenMP has a number per thread
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model", initializer=prepare)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` on the model's thread; return its result."""
        with_args = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, with_args)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def read(self, token_ids: Sequence[int]) -> Prefix:
        """Read a prefix of token ids. Raises InvalidRequestError if ``check_prefix`` does."""
        check_prefix(token_ids, self.max_length, self.vocabulary_size)
        cache = DynamicCache()  # the model's own cache may drop tokens outside a sliding window
        outputs = self._model(input_ids=self._tensor([token_ids]), past_key_values=cache, use_cache=True)
        layers = tuple((layer.keys, layer.values) for layer in outputs.past_key_values.layers)
        return Prefix(layers, outputs.logits[0, -1], len(token_ids))

    @torch.inference_mode()
    def continue_rows(self, cache: DynamicCache, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read a row of token ids behind each row of the cache, which grows; return outputs [rows, longest, outputs].

        Rows are padded on the right: with causal attention no token sees the padding behind it.
        """
        longest = max(map(len, rows))
        padded = [list(row) + [0] * (longest - len(row)) for row in rows]
        outputs: Tensor = self._model(input_ids=self._tensor(padded), past_key_values=cache, use_cache=True).logits
        return outputs

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._device)
