"""The prefixes that a model has read, kept until the memory that they may have is full."""

from bisect import bisect_left
from collections import OrderedDict

from gsi.engines.on_transformers.metrics import PREFIX_CACHE_HITS, PREFIX_CACHE_QUERIES
from gsi.engines.on_transformers.prefix import Prefix, TokenIds


class PrefixCache:
    """Prefixes by their token ids, at most ``max_bytes`` of keys and values; the one unused for longest goes first.

    The token ids are kept in lexicographic order. In that order a kept prefix that shares the most tokens with others
    stands directly before or behind their place.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._ordered: list[TokenIds] = []
        self._by_age: OrderedDict[TokenIds, Prefix] = OrderedDict()  # the one unused for longest first

    @property
    def num_bytes(self) -> int:
        """The bytes of all keys and values that are kept."""
        return self._num_bytes

    def find(self, token_ids: TokenIds) -> tuple[Prefix | None, int]:
        """Return the kept prefix that begins with the most of these tokens, and how many; None and 0 if none does."""
        place = bisect_left(self._ordered, token_ids)
        neighbours = self._ordered[max(place - 1, 0) : place + 1]
        shared, nearest = max(((count_shared(kept, token_ids), kept) for kept in neighbours), default=(0, ()))
        PREFIX_CACHE_QUERIES.inc(len(token_ids))
        PREFIX_CACHE_HITS.inc(shared)
        if not shared:
            return None, 0
        self._by_age.move_to_end(nearest)
        return self._by_age[nearest], shared

    def keep(self, prefix: Prefix) -> None:
        """Keep a prefix, in place of the prefix that it continues; forget others if there are too many bytes."""
        place = bisect_left(self._ordered, prefix.token_ids)
        if place > 0 and count_shared(self._ordered[place - 1], prefix.token_ids) == len(self._ordered[place - 1]):
            self._forget(self._ordered[place - 1])
        self._forget(prefix.token_ids)
        self._ordered.insert(bisect_left(self._ordered, prefix.token_ids), prefix.token_ids)
        self._by_age[prefix.token_ids] = prefix
        self._num_bytes += prefix.num_bytes
        while self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._by_age)))

    def _forget(self, token_ids: TokenIds) -> None:
        forgotten = self._by_age.pop(token_ids, None)
        if forgotten is not None:
            self._num_bytes -= forgotten.num_bytes
            del self._ordered[bisect_left(self._ordered, token_ids)]


def count_shared(one: TokenIds, other: TokenIds) -> int:
    """Return how many tokens two sequences begin with in common."""
    lengths = range(1, min(len(one), len(other)) + 1)
    return bisect_left(lengths, True, key=lambda length: one[:length] != other[:length])
