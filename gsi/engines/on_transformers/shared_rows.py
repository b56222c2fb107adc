"""The keys and values of the candidates that are being written, of all proposals, in one tensor per layer.

Candidates grow by a token a pass. Here attention is asked once for all of them: a call for each proposal costs more
than a small model's pass. A row that ends is replaced by the last row, so the rows in use stand together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention

from gsi.engines.on_transformers.prefix import Prefix, Tensor

MAX_BYTES = 2**30  # of all rows, each as long as the longest; a proposal that does not fit has tensors of its own
ROOM = 64  # tokens by which the rows grow: growing copies all of them


@dataclass(slots=True, eq=False)
class SharedRows:
    """The rows of one proposal: their places, and how many tokens each has."""

    places: list[int]
    length: int
    is_free: bool = False  # set by any thread, once nobody writes these rows any more


@dataclass(slots=True)
class Turn:
    """The rows that grow in a pass, with the places that their new tokens take."""

    places: Tensor
    lengths: Tensor  # before the pass
    longest: int  # after the pass, of all rows in use
    all_lengths: Tensor  # after the pass, of all rows in use
    masks: dict[int | None, Tensor] = field(default_factory=dict)  # by the sliding window


class RowStore:
    """Rows of keys and values [rows, heads, length, head size] per layer, for the thread of one model."""

    def __init__(self) -> None:
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._owners: list[SharedRows] = []  # of each row in use

    def join(self, prefix: Prefix, num_rows: int) -> SharedRows | None:
        """Add rows that begin with a prefix; None if there is no room for them."""
        self.sweep()
        begin, end = len(self._owners), len(self._owners) + num_rows
        length = max(prefix.length, *(owner.length for owner in self._owners), 0) + ROOM
        if not self._make_room(prefix, end, length):
            return None
        for (keys, values), (prefix_keys, prefix_values) in zip(self._layers, prefix.layers, strict=True):
            keys[begin:end, :, : prefix.length] = prefix_keys
            values[begin:end, :, : prefix.length] = prefix_values
        rows = SharedRows(list(range(begin, end)), prefix.length)
        self._owners += [rows] * num_rows
        return rows

    def keys_of(self, place: int, layer: int) -> Tensor:
        """Return the keys of one row, [heads, length, head size], with the room behind them."""
        return self._layers[layer][0][place]

    def select(self, rows: SharedRows, positions: Sequence[int]) -> None:
        """Keep only the rows at these positions."""
        kept = [rows.places[position] for position in positions]
        ended = sorted(set(rows.places) - set(kept), reverse=True)
        rows.places = kept
        for place in ended:
            self._remove(place)

    def sweep(self) -> None:
        """Remove the rows of proposals that have ended."""
        for rows in [rows for rows in dict.fromkeys(self._owners) if rows.is_free]:
            self.select(rows, [])

    def begin(self, growing: Sequence[SharedRows]) -> Turn:
        """Prepare a pass in which these rows get a token each."""
        longest = 1 + max(rows.length for rows in self._owners)
        if longest > self._layers[0][0].shape[2]:
            self._resize(self._layers[0][0].shape[0], longest + ROOM)
        device = self._layers[0][0].device
        grown = set(map(id, growing))
        after = [rows.length + (id(rows) in grown) for rows in self._owners]
        return Turn(
            torch.tensor([place for rows in growing for place in rows.places], device=device),
            torch.tensor([rows.length for rows in growing for _ in rows.places], device=device),
            longest,
            torch.tensor(after, device=device),
        )

    def attend(
        self, layer: int, turn: Turn, new: tuple[Tensor, ...], *, window: int | None, scale: float | None
    ) -> Tensor:
        """Return what each new token attends to, and keep its key and value.

        ``new``: query, key and value, each [tokens, heads, head size] in the order of the turn, as the result.
        """
        query, key, value = new
        keys, values = self._layers[layer]
        keys[turn.places, :, turn.lengths] = key
        values[turn.places, :, turn.lengths] = value
        num_rows, (_, heads, size) = len(self._owners), query.shape
        queries = query.new_zeros(num_rows, heads, size).index_copy_(0, turn.places, query)
        grouped = queries.view(num_rows, keys.shape[1], -1, size)  # the heads that share keys, as if they were tokens
        attended = scaled_dot_product_attention(
            grouped,
            keys[:num_rows, :, : turn.longest],
            values[:num_rows, :, : turn.longest],
            attn_mask=_mask(turn, window, query.dtype),
            scale=scale,
        )
        return attended.reshape(num_rows, heads, -1).index_select(0, turn.places)

    def _remove(self, place: int) -> None:
        last = len(self._owners) - 1
        moved = self._owners.pop()
        if not self._owners:
            self._layers = []  # nobody writes: others may have the memory
        if place == last:
            return
        for keys, values in self._layers:
            keys[place, :, : moved.length] = keys[last, :, : moved.length]
            values[place, :, : moved.length] = values[last, :, : moved.length]
        moved.places[moved.places.index(last)] = place
        self._owners[place] = moved

    def _make_room(self, prefix: Prefix, num_rows: int, length: int) -> bool:
        """Make the tensors large enough; return False if they would be too large."""
        has_rows, has_length = self._layers[0][0].shape[0:3:2] if self._layers else (0, 0)
        if num_rows <= has_rows and length - ROOM < has_length:
            return True
        wanted_rows = has_rows if num_rows <= has_rows else 2 ** math.ceil(math.log2(num_rows))
        wanted_length = max(length, has_length) if self._owners else length
        if wanted_rows * wanted_length * (prefix.num_bytes / prefix.length) > MAX_BYTES:
            return False
        if not self._layers or not self._owners:
            self._layers = [(_rows_like(k, wanted_rows), _rows_like(v, wanted_rows)) for k, v in prefix.layers]
        self._resize(wanted_rows, wanted_length)
        return True

    def _resize(self, num_rows: int, length: int) -> None:
        self._layers = [(_resized(k, num_rows, length), _resized(v, num_rows, length)) for k, v in self._layers]


def _mask(turn: Turn, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return 0 for each key that the last token of a row sees and -inf for others: [rows, 1, 1, keys]."""
    if window not in turn.masks:
        keys, lengths = torch.arange(turn.longest, device=turn.places.device), turn.all_lengths[:, None]
        hidden = keys >= lengths if window is None else (keys >= lengths) | (keys < lengths - window)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
        turn.masks[window] = mask[:, None, None, :]
    return turn.masks[window]


def _rows_like(tensor: Tensor, num_rows: int) -> Tensor:
    return tensor.new_zeros(num_rows, tensor.shape[1], 0, tensor.shape[3])


def _resized(tensor: Tensor, num_rows: int, length: int) -> Tensor:
    """Return a copy with room for so many rows and tokens."""
    resized = tensor.new_zeros(num_rows, tensor.shape[1], length, tensor.shape[3])  # what no row has is not NaN
    resized[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return resized
