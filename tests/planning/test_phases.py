"""A pass takes as long as its bytes or its FLOPs, whichever is slower, and an overhead."""

import random
import statistics

import pytest

from gsi.planning.lengths import expected_length, expected_longest, expected_shortest
from gsi.planning.phases import MAX_PASS_TOKENS, Model, Processor, read, write
from tests.planning.worlds import make_setup

TARGET = make_setup().models["target"]


def test_decode_reads_the_weights_once_for_each_token_of_the_longest_candidate() -> None:
    """Bytes, FLOPs and seconds of writing, counted by hand; it is memory-bandwidth-bound."""
    phase = write("w", TARGET, rows=16, mean=20, longest=50, context=300)
    assert phase.passes == 50
    assert phase.num_bytes == pytest.approx(50 * TARGET.pass_bytes + 16 * 20 * 310 * TARGET.kv_bytes)
    assert not phase.is_compute_bound
    assert phase.seconds == pytest.approx(phase.num_bytes / 2e12 + 50 * 0.002)
    assert phase.floor_seconds == pytest.approx(phase.num_bytes / 2e12)


def test_scoring_reads_the_weights_once_for_all_candidates() -> None:
    """The same tokens, read in one pass, are compute-bound, and far sooner done than written."""
    scored = read("s", TARGET, rows=16, length=20, cached=300)
    written = write("w", TARGET, rows=16, mean=20, longest=50, context=300)
    assert scored.passes == 1
    assert scored.is_compute_bound
    assert scored.seconds < written.seconds / 20
    assert scored.flops == pytest.approx(written.flops, rel=0.01)


def test_what_does_not_fit_one_pass_takes_another() -> None:
    """A prefill longer than a pass reads the weights again."""
    assert read("s", TARGET, rows=1, length=MAX_PASS_TOKENS, cached=0).passes == 1
    assert read("s", TARGET, rows=1, length=MAX_PASS_TOKENS + 1, cached=0).passes == 2


def test_host_work_counts_for_tokens_that_are_written() -> None:
    """Sampling costs each written token; reading samples nothing."""
    slow = Model("target", TARGET.architecture, Processor(500e12, 2e12, 0.002, seconds_per_token=0.001))
    wrote = [write("w", one, rows=4, mean=10, longest=20, context=100).seconds for one in (TARGET, slow)]
    assert wrote[1] - wrote[0] == pytest.approx(4 * 10 * 0.001)
    took = [read("s", one, rows=4, length=10, cached=0).seconds for one in (TARGET, slow)]
    assert took[0] == took[1]


@pytest.mark.parametrize(("mean", "limit", "n"), [(20, 512, 1), (20, 512, 16), (300, 512, 64), (50, 64, 4)])
def test_the_shortest_and_the_longest_of_n_candidates_are_means_of_drawn_ones(mean: float, limit: int, n: int) -> None:
    """The formulas against draws from the law that they state."""
    rng = random.Random(0)
    drawn = [[min(rng.expovariate(1 / mean), limit) for _ in range(n)] for _ in range(4000)]
    assert expected_longest(mean, limit, n) == pytest.approx(statistics.fmean(map(max, drawn)), rel=0.04)
    assert expected_shortest(mean, limit, n) == pytest.approx(statistics.fmean(map(min, drawn)), rel=0.06)
    assert expected_length(mean, limit) == pytest.approx(statistics.fmean(row[0] for row in drawn), rel=0.06)
