"""Layers that two heads share: what they made of a candidate for one head is kept until the other has read it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import nn

from gsi.engines.base import EngineSettings
from gsi.engines.on_transformers.metrics import CANDIDATE_READINGS
from gsi.engines.on_transformers.model_thread import Work
from gsi.engines.on_transformers.passes import Head, Tensor
from gsi.engines.on_transformers.prefix import Prefix, TokenIds
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.qwen2_prm import RewardOutput

T = TypeVar("T")
Key = tuple[TokenIds, TokenIds]  # of a prefix, of a row behind it

MOST_TOKENS = 2**16  # of rows that wait for the other head: 1 GB of hidden states where one is a vector of 4,096 floats


class Layers(nn.Module):
    """The layers of a model without its head: what it puts out are its last hidden states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config = model.config
        self.layers = model.base_model

    def forward(self, input_ids: Tensor, **options: Any) -> RewardOutput:
        """Return hidden states [batch, length, hidden] for token ids [batch, length] behind the tokens in the cache."""
        read = self.layers(input_ids=input_ids, **options)
        return RewardOutput(logits=read.last_hidden_state, past_key_values=read.past_key_values)


@dataclass(slots=True)
class _Reading:
    """A pass in progress or done: it ends with the hidden states of several rows, of which one is meant."""

    work: "asyncio.Task[list[Tensor]]"
    position: int


class SharedLayers(PrefixModel):
    """Layers on their own thread. Each row behind a prefix is read once, whichever head asks for it first.

    A row is the token ids of a candidate. All heads ask on one event loop. ``head`` is that of the language model.
    """

    def __init__(self, model: Any, max_length: int, settings: EngineSettings, head: Head) -> None:
        super().__init__(Layers(model), max_length, settings, head)
        self._prefixes: dict[TokenIds, asyncio.Task[Prefix]] = {}  # that are being read
        self._rows: OrderedDict[Key, _Reading] = OrderedDict()  # that one head has asked for, the oldest first
        self._num_tokens = 0  # of these rows
        self._num_users = 2

    def close(self) -> None:
        """Close the layers when both heads have closed them."""
        self._num_users -= 1
        if self._num_users == 0:
            super().close()

    async def read_prefix(self, token_ids: Sequence[int]) -> Prefix:
        """Read a prefix, or wait for whoever is reading it."""
        wanted = tuple(token_ids)
        if wanted not in self._prefixes:
            work = asyncio.create_task(self.run(self.read(wanted)))
            self._prefixes[wanted] = work
            work.add_done_callback(lambda _: self._prefixes.pop(wanted))
        return await asyncio.shield(self._prefixes[wanted])

    async def read_once(self, prefix: Prefix, rows: Sequence[TokenIds]) -> list[Tensor]:
        """Return the hidden states [tokens, hidden] of each row. The rows differ.

        The rows that no head has asked for are read in one pass. A row that is asked for again is forgotten.
        """
        keys = [(prefix.token_ids, row) for row in rows]
        known = {key: self._take(key) for key in keys if key in self._rows}
        fresh = [key for key in keys if key not in known]
        CANDIDATE_READINGS.labels("shared").inc(len(known))
        CANDIDATE_READINGS.labels("computed").inc(len(fresh))
        if fresh:
            known |= self._begin(prefix, fresh)
        return [(await asyncio.shield(known[key].work))[known[key].position] for key in keys]

    def _begin(self, prefix: Prefix, keys: Sequence[Key]) -> dict[Key, _Reading]:
        """Begin a pass over rows, which are kept for the other head; forget the oldest rows if there are too many."""
        reading = self.run(self._read_rows(prefix, [row for _, row in keys]))
        work = asyncio.get_running_loop().create_task(reading)
        readings: dict[Key, _Reading] = {}
        for position, key in enumerate(keys):
            readings[key] = self._rows[key] = _Reading(work, position)
        self._num_tokens += sum(len(row) for _, row in keys)
        while self._num_tokens > MOST_TOKENS:
            self._drop(next(iter(self._rows)))
        work.add_done_callback(partial(self._drop_failed, keys))
        return readings

    async def compute(self, work: Callable[[], T]) -> T:
        """Run what needs no pass on the model's thread, where torch has its threads."""
        return await self.run(_at_once(work))

    def _read_rows(self, prefix: Prefix, rows: Sequence[TokenIds]) -> Work[list[Tensor]]:
        outputs = yield from self.continue_rows(prefix.cache(len(rows)), rows)
        return [of_row[: len(row)] for of_row, row in zip(outputs, rows, strict=True)]

    def _take(self, key: Key) -> _Reading:
        self._num_tokens -= len(key[1])
        return self._rows.pop(key)

    def _drop(self, key: Key) -> None:
        if key in self._rows:
            self._take(key)

    def _drop_failed(self, keys: Sequence[Key], ended: "asyncio.Task[Any]") -> None:
        """Forget the rows of a pass that failed: whoever waits gets the error, and whoever asks next tries again."""
        if ended.cancelled() or ended.exception() is not None:
            for key in keys:
                self._drop(key)


def _at_once(work: Callable[[], T]) -> Work[T]:
    yield from ()
    return work()
