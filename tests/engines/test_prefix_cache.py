"""The prefixes that the transformers engine keeps: found by their longest beginning, bounded in bytes."""

from contextlib import closing
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from transformers import LlamaConfig, LlamaForCausalLM

from gsi.engines.base import EngineSettings
from gsi.engines.on_transformers.passes import Part, Passes
from gsi.engines.on_transformers.prefix import Prefix
from gsi.engines.on_transformers.prefix_cache import PrefixCache, count_shared
from gsi.engines.on_transformers.prefix_model import PrefixModel

SOME_BYTES = 2 * 4  # of keys and values, for each token of ``make_prefix``

token_ids = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


def make_prefix(tokens: tuple[int, ...]) -> Prefix:
    keys = torch.tensor(tokens, dtype=torch.float32).view(1, 1, -1, 1)
    return Prefix(tokens, [(keys, keys)], torch.zeros(1))


@given(st.lists(token_ids), token_ids)
def test_the_kept_prefix_with_the_longest_common_beginning_is_found(kept: list[Any], wanted: Any) -> None:
    """Whatever is kept and in whatever order it came: as many tokens as a search through all would find."""
    cache = PrefixCache(10**6)
    for tokens in kept:
        cache.keep(make_prefix(tokens))
    found, num_shared = cache.find(wanted)
    assert num_shared == max((count_shared(tokens, wanted) for tokens in kept), default=0)
    assert (found is None) == (num_shared == 0)
    if found is not None:
        assert found.token_ids[:num_shared] == wanted[:num_shared]


@given(token_ids, token_ids)
def test_shared_tokens_are_counted(one: Any, other: Any) -> None:
    """As by comparing token by token."""
    expected = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert count_shared(one, other) == expected


@given(st.lists(token_ids), st.integers(0, 40))
def test_the_bytes_are_bounded(kept: list[Any], max_tokens: int) -> None:
    """And they are those of the prefixes that can be found."""
    cache = PrefixCache(max_tokens * SOME_BYTES)
    for tokens in kept:
        cache.keep(make_prefix(tokens))
        assert cache.num_bytes <= max_tokens * SOME_BYTES
    found = {found.token_ids for found, _ in map(cache.find, kept) if found is not None}
    assert cache.num_bytes >= sum(map(len, found)) * SOME_BYTES


def test_the_prefix_that_was_unused_for_longest_is_forgotten() -> None:
    """Finding a prefix is using it."""
    cache = PrefixCache(4 * SOME_BYTES)
    for tokens in ((1, 1), (2, 2)):
        cache.keep(make_prefix(tokens))
    cache.find((1, 1, 5))
    cache.keep(make_prefix((3, 3)))
    assert [cache.find((first, first))[1] for first in (1, 2, 3)] == [2, 0, 2]


def test_a_prefix_takes_the_place_of_the_one_that_it_continues() -> None:
    """The steps of a job need the memory of the last one only."""
    cache = PrefixCache(10**6)
    for length in range(1, 9):
        cache.keep(make_prefix((1,) * length))
    assert cache.num_bytes == 8 * SOME_BYTES


def hits() -> float:
    return REGISTRY.get_sample_value("gsi_prefix_cache_hits_total") or 0.0


@pytest.mark.parametrize("max_bytes", [2**20, 0])
async def test_a_step_reads_what_the_last_one_added(max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix that continues, repeats, shortens or leaves another is read from where they differ; outputs agree."""
    num_read: list[int] = []
    run = Passes.run

    def run_and_count(passes: Passes, parts: list[Part]) -> None:
        num_read.append(sum(part.num_tokens for part in parts))
        run(passes, parts)

    monkeypatch.setattr(Passes, "run", run_and_count)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).eval()
    model = PrefixModel(plain, 64, EngineSettings("", num_threads=1, prefix_cache_bytes=max_bytes))
    first = list(range(1, 21))
    asked = [first, [*first, 30, 31], [*first, 30, 31], first, [*first, 40], [*first, 30, 32], [9, 9, 9]]
    before = hits()
    with closing(model):
        for tokens in asked:
            prefix = await model.run(model.read(tokens))
            with torch.inference_mode():
                expected = plain(torch.tensor([tokens])).logits[0, -1]
            torch.testing.assert_close(prefix.last_outputs, expected, atol=1e-5, rtol=0)
    if max_bytes:
        assert num_read == [20, 2, 1, 1, 1, 3]  # the repeated prefix is not read at all
        assert hits() - before == 20 + 22 + 20 + 20 + 21
    else:
        assert num_read == list(map(len, asked))
        assert hits() == before
