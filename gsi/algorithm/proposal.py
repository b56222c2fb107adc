"""Propose candidates and score each as it is finished, so that scoring hides behind drafting."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from gsi.algorithm.candidates import Candidate, Score, in_index_order
from gsi.algorithm.ports import CandidateBatches, ScoreBatches

Scorer = Callable[[CandidateBatches], ScoreBatches]
Channel = asyncio.Queue[Sequence[Candidate] | None]  # None ends it


@dataclass(frozen=True, slots=True)
class Proposal:
    """n candidates in index order, and each scorer's values in the same order.

    ``seconds``: from the proposal's start to the end of drafting ("propose") and of each scorer.
    """

    candidates: tuple[Candidate, ...]
    scores: Mapping[str, list[float]]
    seconds: Mapping[str, float]

    @property
    def num_tokens(self) -> int:
        return sum(len(candidate.token_ids) for candidate in self.candidates)


async def propose_and_score(n: int, proposals: CandidateBatches, scorers: Mapping[str, Scorer]) -> Proposal:
    """Collect n proposals while every scorer rates them as they arrive.

    If one part fails the others are cancelled, and its error is raised.
    """
    started = time.perf_counter()
    channels: dict[str, Channel] = {name: asyncio.Queue() for name in scorers}
    try:
        async with asyncio.TaskGroup() as group:
            drafting = group.create_task(_forward(proposals, list(channels.values())))
            scoring = {
                name: group.create_task(_collect(scorer(_drain(channels[name])))) for name, scorer in scorers.items()
            }
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    candidates, drafted_at = drafting.result()
    scored = {name: task.result() for name, task in scoring.items()}
    return Proposal(
        candidates=_checked(candidates, n),
        scores={name: in_index_order(scores, n, name) for name, (scores, _) in scored.items()},
        seconds={"propose": drafted_at - started} | {name: at - started for name, (_, at) in scored.items()},
    )


async def _forward(proposals: CandidateBatches, channels: Sequence[Channel]) -> tuple[list[Candidate], float]:
    """Collect the proposals and pass each batch on at once; return them with the time of the last."""
    candidates: list[Candidate] = []
    async with aclosing(proposals):
        async for batch in proposals:
            candidates.extend(batch)
            for channel in channels:
                channel.put_nowait(batch)
    for channel in channels:
        channel.put_nowait(None)
    return candidates, time.perf_counter()


async def _drain(channel: Channel) -> AsyncGenerator[Sequence[Candidate], None]:
    while (batch := await channel.get()) is not None:
        yield batch


async def _collect(answers: ScoreBatches) -> tuple[list[Score], float]:
    async with aclosing(answers):
        scores = [score async for batch in answers for score in batch]
    return scores, time.perf_counter()


def _checked(candidates: Sequence[Candidate], n: int) -> tuple[Candidate, ...]:
    in_index_order([Score(c.index, c.log_likelihood) for c in candidates], n, "proposal")
    return tuple(sorted(candidates, key=lambda candidate: candidate.index))
