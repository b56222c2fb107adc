"""What the PRM is asked about in a proposal: every candidate, or only those whose reward will be read."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from math import isnan, nan

from gsi.algorithm.candidates import Candidate, Score, Trajectory
from gsi.algorithm.ports import CandidateBatches, ScoreBatches
from gsi.algorithm.proposal import Proposal, Scorer
from gsi.algorithm.reward_map import RewardMap

IsAsked = Callable[[Candidate], bool]  # called in threads: a job's answer pattern may be slow


class Rater:
    """The PRM's part in one proposal. ``is_asked`` says whether it rates a candidate; None: it rates all."""

    def __init__(self, rate: Scorer, is_asked: IsAsked | None) -> None:
        self._rate = rate
        self._is_asked = is_asked
        self._unrated: list[Score] = []

    def score(self, candidates: CandidateBatches) -> ScoreBatches:
        """Yield a reward for each candidate that the PRM rates, then NaN for the others."""
        return self._rate(candidates) if self._is_asked is None else self._score_some(candidates, self._is_asked)

    def finish(self, proposal: Proposal, trajectory: Trajectory, reward_map: RewardMap) -> Proposal:
        """Return the proposal with mapped rewards, and with what the PRM was not asked about."""
        scores = {**proposal.scores, "prm": [reward_map.reward(score) for score in proposal.scores["prm"]]}
        if self._is_asked is None:
            return replace(proposal, scores=scores)
        unrated = frozenset(score.index for score in self._unrated)
        if len(unrated) == len(proposal.candidates):
            del scores["prm"]
        return replace(proposal, scores=scores, unrated=unrated, num_unread_tokens=count_unread_tokens(trajectory))

    async def _score_some(self, candidates: CandidateBatches, is_asked: IsAsked) -> ScoreBatches:
        """Call the PRM once there is a candidate for it; without one it is not called."""
        asked = self._pick(candidates, is_asked)
        first = await anext(asked, None)
        if first is not None:
            async with aclosing(self._rate(_chain(first, asked))) as batches:
                async for batch in batches:
                    yield batch
        yield self._unrated

    async def _pick(self, candidates: CandidateBatches, is_asked: IsAsked) -> AsyncGenerator[list[Candidate], None]:
        async for batch in candidates:
            asked = await asyncio.to_thread(lambda batch: [one for one in batch if is_asked(one)], batch)
            self._unrated += [Score(one.index, nan) for one in batch if one not in asked]
            if asked:
                yield asked


def count_unread_tokens(trajectory: Trajectory) -> int:
    """Return the number of tokens of the last steps that the PRM has not rated, so that it has not read them yet."""
    total = 0
    for step in reversed(trajectory.steps):
        if not isnan(step.best_reward):
            break
        total += len(step.token_ids)
    return total


async def _chain(first: list[Candidate], others: AsyncGenerator[list[Candidate], None]) -> CandidateBatches:
    batch: Sequence[Candidate]
    yield first
    async for batch in others:
        yield batch
