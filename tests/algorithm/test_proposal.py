"""Drafting and scoring side by side: the overlap, and what becomes of the others when one fails."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from gsi.algorithm.candidates import Candidate, FinishReason, Score, Source
from gsi.algorithm.ports import CandidateBatches, ScoreBatches
from gsi.algorithm.proposal import propose_and_score

pytestmark = pytest.mark.timeout(10)  # a proposal that waits for itself hangs


class ModelBrokeError(Exception):
    pass


def candidate(index: int, num_tokens: int = 1) -> Candidate:
    return Candidate(index, (7,) * num_tokens, f"step {index}", -1.0, FinishReason.DELIMITER)


async def draft(*batches: Sequence[int]) -> CandidateBatches:
    for batch in batches:
        yield [candidate(index, num_tokens=index + 1) for index in batch]


async def reward(candidates: CandidateBatches) -> ScoreBatches:
    async for batch in candidates:
        yield [Score(c.index, c.index / 10) for c in batch]


async def likelihood(candidates: CandidateBatches) -> ScoreBatches:
    """Score all at the end, the last one first."""
    everything = [c async for batch in candidates for c in batch]
    yield [Score(c.index, -float(c.index)) for c in reversed(everything)]


class Waiting:
    """A part that starts, waits for ever, and remembers that it was stopped."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.closed = False

    async def _wait(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.closed = True

    async def propose(self) -> CandidateBatches:
        yield [candidate(0)]
        await self._wait()

    async def score(self, candidates: CandidateBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(c.index, 0.5) for c in batch]
            await self._wait()


async def break_after(started: asyncio.Event, candidates: CandidateBatches) -> ScoreBatches:
    async for batch in candidates:
        yield [Score(c.index, 0.5) for c in batch]
        await started.wait()
        raise ModelBrokeError


async def test_candidates_and_scores_are_put_in_index_order() -> None:
    """They arrive in completion order, from each part its own."""
    proposal = await propose_and_score(Source.DRAFT, 3, draft([2], [0, 1]), {"prm": reward, "target": likelihood})
    assert [c.index for c in proposal.candidates] == [0, 1, 2]
    assert proposal.scores == {"prm": [0.0, 0.1, 0.2], "target": [0.0, -1.0, -2.0]}


async def test_a_scorer_that_was_busy_gets_what_came_meanwhile_together() -> None:
    """One message instead of two: each costs a forward pass."""
    sizes: list[int] = []
    is_busy = asyncio.Event()

    async def slow_draft() -> CandidateBatches:
        yield [candidate(0)]
        await is_busy.wait()
        yield [candidate(1)]
        yield [candidate(2)]

    async def busy(candidates: CandidateBatches) -> ScoreBatches:
        async for batch in candidates:
            sizes.append(len(batch))
            is_busy.set()
            yield [Score(c.index, 0.0) for c in batch]

    proposal = await propose_and_score(Source.DRAFT, 3, slow_draft(), {"prm": busy})
    assert sizes == [1, 2]
    assert proposal.scores == {"prm": [0.0] * 3}


async def test_a_proposal_counts_every_candidates_tokens() -> None:
    """Those that will be discarded too: they were paid for."""
    assert (await propose_and_score(Source.DRAFT, 3, draft([0, 1, 2]), {})).num_tokens == 1 + 2 + 3


async def test_scoring_starts_before_drafting_has_finished() -> None:
    """Here the draft writes its second candidate only once the first has been scored by both scorers."""
    scored = {"prm": asyncio.Event(), "target": asyncio.Event()}

    async def patient_draft() -> CandidateBatches:
        yield [candidate(0)]
        await asyncio.gather(*(event.wait() for event in scored.values()))
        yield [candidate(1)]

    def scorer(name: str) -> Callable[[CandidateBatches], ScoreBatches]:
        async def score(candidates: CandidateBatches) -> ScoreBatches:
            async for batch in candidates:
                scored[name].set()
                yield [Score(c.index, 0.5) for c in batch]

        return score

    proposal = await propose_and_score(Source.DRAFT, 2, patient_draft(), {name: scorer(name) for name in scored})
    assert proposal.scores == {"prm": [0.5, 0.5], "target": [0.5, 0.5]}


async def test_seconds_are_told_for_drafting_and_each_scorer() -> None:
    """A scorer that waits for the last candidate ends after the drafting does."""
    seconds = (await propose_and_score(Source.DRAFT, 2, draft([0], [1]), {"prm": reward, "target": likelihood})).seconds
    assert set(seconds) == {"propose", "prm", "target"}
    assert 0 <= seconds["propose"] <= seconds["target"]


async def test_a_scorer_s_own_time_begins_with_the_first_candidate() -> None:
    """Before that it had nothing to do, however long the draft took."""

    async def slow_draft() -> CandidateBatches:
        await asyncio.sleep(0.05)
        yield [candidate(0)]
        await asyncio.sleep(0.02)
        yield [candidate(1)]

    proposal = await propose_and_score(Source.DRAFT, 2, slow_draft(), {"prm": reward, "target": likelihood})
    assert 0.05 <= proposal.first_seconds <= proposal.seconds["propose"] - 0.02
    for scorer in ("prm", "target"):
        assert proposal.scoring_seconds(scorer) == proposal.seconds[scorer] - proposal.first_seconds >= 0.02


async def test_a_draft_that_fails_stops_the_scorers_and_raises_its_own_error() -> None:
    """Not a group of errors: the caller asked for one thing."""
    waiting = Waiting()

    async def broken_draft() -> CandidateBatches:
        yield [candidate(0)]
        await waiting.started.wait()
        raise ModelBrokeError

    with pytest.raises(ModelBrokeError):
        await propose_and_score(Source.DRAFT, 2, broken_draft(), {"prm": waiting.score})
    assert waiting.closed


async def test_a_scorer_that_fails_stops_the_draft_and_the_other_scorer() -> None:
    """Nobody goes on working for a step that cannot be made."""
    drafting, scoring = Waiting(), Waiting()
    with pytest.raises(ModelBrokeError):
        await propose_and_score(
            Source.DRAFT,
            2,
            drafting.propose(),
            {"prm": partial(break_after, scoring.started), "target": scoring.score},
        )
    assert drafting.closed
    assert scoring.closed


async def test_a_cancelled_proposal_stops_every_part() -> None:
    """A job that is cancelled leaves no engine at work."""
    drafting, scoring = Waiting(), Waiting()
    task = asyncio.create_task(propose_and_score(Source.DRAFT, 2, drafting.propose(), {"prm": scoring.score}))
    await asyncio.gather(drafting.started.wait(), scoring.started.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drafting.closed
    assert scoring.closed


@pytest.mark.parametrize("indices", [[0], [0, 0], [0, 1, 1], [0, 1, 2], []])
async def test_a_proposer_must_give_each_index_once(indices: list[int]) -> None:
    """A candidate that is missing, given twice or not asked for is an error, not a guess."""
    with pytest.raises(RuntimeError, match=r"proposal must be given once for each of 2 candidates"):
        await propose_and_score(Source.DRAFT, 2, draft(indices), {"prm": reward})


@pytest.mark.parametrize("indices", [[0], [1, 1], [0, 1, 0], []])
async def test_a_scorer_must_score_each_index_once(indices: list[int]) -> None:
    """The error names the scorer."""

    async def careless(candidates: CandidateBatches) -> ScoreBatches:
        async for _ in candidates:
            pass
        yield [Score(index, 0.5) for index in indices]

    with pytest.raises(RuntimeError, match=r"prm must be given once for each of 2 candidates"):
        await propose_and_score(Source.DRAFT, 2, draft([0, 1]), {"prm": careless})
