"""Propose candidates and score each candidate as it finishes, so that scoring runs at the same time as drafting."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from gsi.algorithm.candidates import Candidate, Score, Source, in_index_order
from gsi.algorithm.ports import CandidateBatches, ScoreBatches
from gsi.algorithm.tilting import log_ratio, rankable, tilted_reward

Scorer = Callable[[CandidateBatches], ScoreBatches]
Channel = asyncio.Queue[Sequence[Candidate] | None]  # None ends it


@dataclass(frozen=True, slots=True)
class Proposal:
    """n candidates that ``source`` wrote, in index order, and each scorer's values in the same order.

    ``seconds``: from the proposal's start to the end of drafting ("propose") and of each scorer. ``first_seconds``: to
    the first candidates, which the scorers get at once. ``selected``: the index that was drawn; None if the method
    keeps candidates by another rule. ``parent``: the place of the trajectory that it continues. ``unrated``: the
    candidates that the PRM was not asked about, whose score is NaN, because nothing reads their reward.
    ``num_unread_tokens``: the tokens before the candidates that the PRM reads with them for the first time.
    """

    source: Source
    candidates: tuple[Candidate, ...]
    scores: Mapping[str, list[float]]
    seconds: Mapping[str, float]
    first_seconds: float = 0.0
    selected: int | None = None
    parent: int = 0
    unrated: frozenset[int] = frozenset()
    num_unread_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return sum(len(candidate.token_ids) for candidate in self.candidates)

    @property
    def num_rated_tokens(self) -> int:
        """How many tokens the PRM rated: those of candidates, each with what it had not read before them."""
        if not self.is_rated:
            return 0
        rated = [candidate for candidate in self.candidates if candidate.index not in self.unrated]
        return sum(len(candidate.token_ids) + self.num_unread_tokens for candidate in rated)

    @property
    def total_seconds(self) -> float:
        """How long the proposal took, until the last candidate and the last score."""
        return max(self.seconds.values())

    def scoring_seconds(self, scorer: str) -> float:
        """Return how long a scorer took from its first candidate to its last score; drafting may overlap."""
        return self.seconds[scorer] - self.first_seconds

    @property
    def drawn(self) -> int:
        """Return the index that was drawn. Raises ValueError if none was."""
        if self.selected is None:
            raise ValueError("no candidate was selected")
        return self.selected

    @property
    def is_rated(self) -> bool:
        """Whether the PRM was asked about any candidate."""
        return "prm" in self.scores

    @property
    def rewards(self) -> list[float]:
        """Return the rewards for ranking: -inf where the PRM gave NaN."""
        return [rankable(reward) for reward in self.scores["prm"]]

    @property
    def log_ratios(self) -> list[float]:
        """Return log(pi_B / pi_S) in nats of the draft's candidates; empty unless the target scored them."""
        likelihoods = self.scores.get("target", [])
        return [log_ratio(b, c.log_likelihood) for b, c in zip(likelihoods, self.candidates, strict=False)]

    def tilted_rewards(self, beta: float) -> list[float]:
        return [tilted_reward(r, ratio, beta) for r, ratio in zip(self.rewards, self.log_ratios, strict=True)]


async def propose_and_score(
    source: Source, n: int, proposals: CandidateBatches, scorers: Mapping[str, Scorer]
) -> Proposal:
    """Collect n candidates of ``source`` while every scorer rates them as they arrive.

    If a part fails, the others are cancelled and its error is raised.
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
    candidates, first_at, drafted_at = drafting.result()
    scored = {name: task.result() for name, task in scoring.items()}
    return Proposal(
        source=source,
        candidates=_sort(candidates, n),
        scores={name: in_index_order(scores, n, name) for name, (scores, _) in scored.items()},
        seconds={"propose": drafted_at - started} | {name: at - started for name, (_, at) in scored.items()},
        first_seconds=first_at - started,
    )


def join(parts: Sequence[Proposal]) -> Proposal:
    """Return proposals for one step that were made one after the other as one. A candidate's index counts all parts."""
    whole = parts[0]
    for part in parts[1:]:
        made, before = len(whole.candidates), whole.total_seconds
        more = [replace(candidate, index=made + candidate.index) for candidate in part.candidates]
        whole = replace(
            whole,
            candidates=(*whole.candidates, *more),
            scores={name: [*scores, *part.scores[name]] for name, scores in whole.scores.items()},
            seconds={name: before + seconds for name, seconds in part.seconds.items()},
        )
    return whole


async def _forward(proposals: CandidateBatches, channels: Sequence[Channel]) -> tuple[list[Candidate], float, float]:
    """Collect the candidates and pass each batch on at once; return them with the times of the first and last batch."""
    candidates: list[Candidate] = []
    first_at: float | None = None
    async with aclosing(proposals):
        async for batch in proposals:
            first_at = first_at or time.perf_counter()
            candidates.extend(batch)
            for channel in channels:
                channel.put_nowait(batch)
    for channel in channels:
        channel.put_nowait(None)
    ended_at = time.perf_counter()
    return candidates, first_at or ended_at, ended_at


async def _drain(channel: Channel) -> AsyncGenerator[Sequence[Candidate], None]:
    """Yield what is in the channel, together: a scorer that was busy gets one message instead of many."""
    waiting: list[Sequence[Candidate] | None] = []
    while None not in waiting:
        waiting = [await channel.get()]
        while not channel.empty():
            waiting.append(channel.get_nowait())
        if candidates := [candidate for batch in waiting for candidate in batch or ()]:
            yield candidates


async def _collect(answers: ScoreBatches) -> tuple[list[Score], float]:
    async with aclosing(answers):
        scores = [score async for batch in answers for score in batch]
    return scores, time.perf_counter()


def _sort(candidates: Sequence[Candidate], n: int) -> tuple[Candidate, ...]:
    in_index_order([Score(c.index, c.log_likelihood) for c in candidates], n, "proposal")
    return tuple(sorted(candidates, key=lambda candidate: candidate.index))
