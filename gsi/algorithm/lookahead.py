"""Lookahead: while the last scores of a step come in, the draft already writes the next step behind the leader.

The leader is the candidate that the method would draw if the candidates without scores were not there. If it is drawn,
what the draft has written ahead is the answer to the call that the next step makes: same prefix, same limits, same
seed (``seeds.py``). Else it is thrown away, and the next step makes its own call. So the law of the answers, and the
answer for a seed, are those without lookahead.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf, nan
from typing import NamedTuple

from gsi.algorithm.candidates import Candidate, Message, Source, Trajectory
from gsi.algorithm.method import Method, Unfinished
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.parts import build_step
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches, TextBatches, TokenBatches
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.seeds import derive_seed
from gsi.algorithm.stopping import JobRules

LEAST_SHARE = 0.5  # of the candidates that must have their scores: a leader of fewer is often overtaken


class Fate(StrEnum):
    """What became of a draft that was written ahead."""

    KEPT = "kept"
    WASTED = "wasted"


@dataclass(frozen=True, slots=True)
class Lookahead:
    """What a caller decides: ``has_room`` says whether the draft may do more than it must; ``note`` learns of fates."""

    has_room: Callable[[], bool]
    note: Callable[[Fate], None]


class Call(NamedTuple):
    """The arguments of the draft's ``propose``."""

    prefix: tuple[int, ...]
    n: int
    sampling: SamplingParams
    seed: int


Watch = Callable[[Sequence[Unfinished]], Ports]


@asynccontextmanager
async def look_ahead(
    lookahead: Lookahead | None, method: Method, ports: Ports, seed: int, rules: JobRules
) -> AsyncIterator[Watch]:
    """Yield a function that returns the ports for a round; what is still written ahead at the end is thrown away.

    Without ``lookahead``, for a method that has no leader, in a search, and where a rule may ask for fewer than n
    candidates, these are the caller's own ports.
    """
    is_fixed = rules.params.n_rule is None
    if lookahead is None or method.find_leader is None or method.is_search(rules.params) or not is_fixed:
        yield lambda _: ports
        return
    job = _Job(lookahead, method, ports, seed, rules)
    try:
        yield job.watch
    finally:
        await job.close()


@dataclass
class _Scoring:
    """The draft's candidates of the step that is being made, and the scores that have come."""

    one: Unfinished
    candidates: dict[int, Candidate] = field(default_factory=dict)
    scores: dict[str, dict[int, float]] = field(default_factory=lambda: {"target": {}, "prm": {}})
    is_drafted: bool = False

    @property
    def scored(self) -> set[int]:
        """The candidates that have both scores."""
        return self.scores["target"].keys() & self.scores["prm"].keys()

    def to_proposal(self) -> Proposal:
        """Return the proposal as it stands. A candidate without both scores has a reward that is never drawn."""
        scored, indices = self.scored, sorted(self.candidates)
        to_reward = self.one.params.reward_map.reward
        return Proposal(
            source=Source.DRAFT,
            candidates=tuple(self.candidates[index] for index in indices),
            scores={
                "prm": [to_reward(self.scores["prm"][index]) if index in scored else nan for index in indices],
                "target": [self.scores["target"][index] if index in scored else -inf for index in indices],
            },
            seconds={},
        )


class _Ahead:
    """A draft of the next step, behind the candidate at ``index``, and the task that writes it."""

    def __init__(self, index: int, call: Call, trajectory: Trajectory, rules: JobRules, ports: Ports) -> None:
        self.index = index
        self.call = call
        self.has_begun = False
        self._written: asyncio.Queue[Sequence[Candidate] | None] = asyncio.Queue()  # None ends it
        self.task = asyncio.create_task(self._write(trajectory, rules, ports))

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    async def read(self) -> CandidateBatches:
        """Yield what has been written, and then what is being written."""
        try:
            while (batch := await self._written.get()) is not None:
                yield batch
            await self.task  # which raises its error
        finally:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def _write(self, trajectory: Trajectory, rules: JobRules, ports: Ports) -> None:
        try:
            if await asyncio.to_thread(rules.find_reason, trajectory) is not None:
                return  # there is no next step
            self.has_begun = True
            async with aclosing(ports.draft.propose(*self.call)) as batches:
                async for batch in batches:
                    self._written.put_nowait(batch)
        finally:
            self._written.put_nowait(None)


class _Job:
    """The ports of one job. They watch the scores of its steps and let the draft write ahead."""

    def __init__(self, lookahead: Lookahead, method: Method, ports: Ports, seed: int, rules: JobRules) -> None:
        self.own = ports
        self.scoring: _Scoring | None = None
        self._lookahead = lookahead
        self._method = method
        self._seed = seed
        self._rules = rules
        self._ports = Ports(_Draft(self), _Target(self), _Prm(self), ports.judges)
        self._one: Unfinished | None = None
        self._ahead: _Ahead | None = None
        self._dropped: set[asyncio.Task[None]] = set()

    def watch(self, growing: Sequence[Unfinished]) -> Ports:
        """Return the ports for a round of one trajectory."""
        (self._one,) = growing
        self.scoring = None
        return self._ports

    def take(self, call: Call) -> CandidateBatches:
        """Return the answer to the draft's call of this round: what was written ahead, if that is the same call."""
        ahead, self._ahead = self._ahead, None
        self.scoring = _Scoring(self._one) if self._one else None
        if ahead and ahead.call == call and ahead.has_begun and not ahead.has_failed:
            self._lookahead.note(Fate.KEPT)
            return ahead.read()
        self._drop(ahead)
        return self.own.draft.propose(*call)

    def consider(self) -> None:
        """Let the draft write behind the leader, once enough candidates have their scores; when all have, be right."""
        scoring = self.scoring
        if scoring is None or not scoring.is_drafted:
            return
        num_scored, n = len(scoring.scored), len(scoring.candidates)
        is_complete = num_scored == n
        if num_scored < LEAST_SHARE * n or (self._ahead and not is_complete):
            return
        if is_complete:
            self.scoring = None  # the next scores, if there are any, are those of the target's candidates
        if not is_complete and not self._lookahead.has_room():
            return
        self._write_behind(scoring, is_complete=is_complete)

    async def close(self) -> None:
        ahead, self._ahead = self._ahead, None
        self._drop(ahead)
        await asyncio.gather(*self._dropped, return_exceptions=True)

    def _write_behind(self, scoring: _Scoring, *, is_complete: bool) -> None:
        """Let the draft write behind the leader of now, in place of what it writes behind another candidate."""
        assert self._method.find_leader is not None
        proposal, one = scoring.to_proposal(), scoring.one
        leader = self._method.find_leader(proposal, one.trajectory, one.params, self._seed)
        if self._ahead and self._ahead.index == leader:
            return
        ahead, self._ahead = self._ahead, None
        self._drop(ahead)
        if leader is None:
            return
        step = build_step(one.trajectory, replace(proposal, selected=leader))
        if not is_complete:
            step = replace(step, best_reward=inf)  # a reward to come may save the answer from ending by low rewards
        self._start(leader, one.trajectory.extend(step))

    def _start(self, leader: int, trajectory: Trajectory) -> None:
        """Begin the call that the next step makes if this trajectory is what the step leads to."""
        params = self._rules.limit_step(trajectory)
        seed = derive_seed(self._seed, len(trajectory.steps), Source.DRAFT)
        call = Call(trajectory.token_ids, params.n, params.sampling, seed)
        self._ahead = _Ahead(leader, call, trajectory, self._rules, self.own)

    def _drop(self, ahead: _Ahead | None) -> None:
        """Stop a draft that nobody needs; the service is told by the end of its call."""
        if ahead is None:
            return
        if ahead.has_begun:
            self._lookahead.note(Fate.WASTED)
        ahead.task.cancel()
        self._dropped.add(ahead.task)
        ahead.task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._dropped.discard(task)
        if not task.cancelled():
            task.exception()  # of a call that nobody needs


class _Draft:
    def __init__(self, job: _Job) -> None:
        self._job = job

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        batches = self._job.take(Call(tuple(prefix), n, sampling, seed))
        scoring = self._job.scoring
        async with aclosing(batches):
            async for batch in batches:
                if scoring:
                    scoring.candidates.update({candidate.index: candidate for candidate in batch})
                yield batch
        if scoring:
            scoring.is_drafted = True
            self._job.consider()


class _Target:
    def __init__(self, job: _Job) -> None:
        self._job = job

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        return self._job.own.target.propose(prefix, n, sampling, seed)

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        return _watch_scores(self._job, "target", self._job.own.target.score(prefix, sampling, candidates))


class _Prm:
    def __init__(self, job: _Job) -> None:
        self._job = job

    def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        return _watch_scores(self._job, "prm", self._job.own.prm.score(messages, steps, candidates))


async def _watch_scores(job: _Job, scorer: str, batches: ScoreBatches) -> ScoreBatches:
    """Pass scores on, and note those of the draft's candidates."""
    scoring = job.scoring
    async with aclosing(batches):
        async for batch in batches:
            if scoring:
                scoring.scores[scorer].update({score.index: score.value for score in batch})
                if job.scoring is scoring:
                    job.consider()
            yield batch
