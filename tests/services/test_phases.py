"""Where a step's time goes: the phases add up to the time between two checkpoints, whatever delays the step."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from gsi.algorithm.candidates import Branch, Candidate, FinishReason, Message, Score, Source
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches, TextBatches, TokenBatches
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.errors import RetryableError
from gsi.grading.equality import EqualityChecker
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.kept_prompt import KeptPrompt
from gsi.jobs.keys import Keys
from gsi.jobs.newer_jobs import NewerJobs
from gsi.jobs.reader import JobReader
from gsi.jobs.step_record import StepRecord
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter, Lease
from services.coordinator.compatibility import Limits
from services.coordinator.metrics import PHASES
from services.coordinator.runner import JobRunner
from services.coordinator.step_limit import StepLimit
from services.coordinator.step_watch import model_phases

NUM_STEPS = 3
DRAFTING, SCORING, SLOWER = 0.02, 0.01, 0.3  # seconds
SLACK = 0.25  # seconds that a busy machine may add to the sleeps of an answer


@dataclass
class Slow:
    """A language model or PRM that sleeps before each of two batches, and first raises its ``failures`` one by one."""

    seconds: float
    value: float = 0.0
    failures: list[Exception] = field(default_factory=list)
    rendered_at: float = 0.0

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        for indices in (range(n // 2), range(n // 2, n)):
            await asyncio.sleep(self.seconds)
            yield [Candidate(i, (i + 1, len(prefix)), f"step {i}\n\n", -1.0, FinishReason.DELIMITER) for i in indices]

    async def score(self, prefix: object, also: object, candidates: TokenBatches | TextBatches) -> ScoreBatches:
        if self.failures:
            await asyncio.sleep(self.seconds)
            raise self.failures.pop(0)
        async for batch in candidates:
            await asyncio.sleep(self.seconds)
            yield [Score(candidate.index, self.value) for candidate in batch]

    async def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        self.rendered_at = time.perf_counter()
        return (1, 2, 3)


class FakeModels:
    """Stands for the coordinator's view of its services."""

    def __init__(self) -> None:
        self.draft, self.target, self.prm = Slow(DRAFTING), Slow(SCORING, -1.0), Slow(SCORING, 0.9)
        self.ports = Ports(self.draft, self.target, self.prm)
        self.limits = Limits(1000, frozenset(Likelihood), None)
        self.step_limit = StepLimit(4)
        self.description = "{}"
        self.lookahead = None

    def placing(self, job_id: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def wait_until_serving(self, role: str) -> None:
        await asyncio.sleep(SLOWER)


class TimedWriter(JobWriter):
    """Notes when the last step's checkpoint was written."""

    ended = 0.0

    async def append_step(self, lease: Lease, record: StepRecord, prompt: KeptPrompt | None = None) -> None:
        await super().append_step(lease, record, prompt)
        self.ended = time.perf_counter()


class HeldLeases:
    """Leases that no other coordinator takes."""

    @asynccontextmanager
    async def hold(self, lease: Lease) -> AsyncIterator[object]:
        yield None


@dataclass
class Measured:
    """What answers added to the series, in seconds, and how long their steps took by another clock."""

    phases: dict[str, float]
    scoring: dict[str, float]
    wall: float


class Coordinator:
    """A runner on a real queue, with models that are sleeps."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self.models = FakeModels()
        self._submitter, self._reader = JobSubmitter(redis, Keys(queue)), JobReader(redis, Keys(queue))
        self._writer = TimedWriter(redis, Keys(queue))
        self._stream = JobStream(redis, Keys(queue), "worker")
        self._num_jobs = 0
        models: Any = self.models
        leases: Any = HeldLeases()
        newer_jobs = NewerJobs(redis, Keys(queue), self._writer)
        self._runner = JobRunner(self._writer, self._reader, models, leases, EqualityChecker(), newer_jobs, 1)

    async def run(self, **params: object) -> float:
        """Run one job of three steps; return the seconds from the start of the answer to its last checkpoint."""
        payload = parse_payload({"prompt": "2 + 3", "params": {"n": 4, "max_steps": NUM_STEPS, **params}})
        self._num_jobs += 1
        job_id = f"job-{self._num_jobs}"
        await self._stream.create_group()
        await self._submitter.submit(Job(job_id, payload))
        (delivery,) = await self._stream.take_new(1, 100)
        await self._runner.run(delivery)
        record = await self._reader.record(job_id)
        assert record is not None
        assert (record.state, len(record.steps)) == ("SUCCEEDED", NUM_STEPS), record.fields
        return self._writer.ended - self.models.draft.rendered_at


async def measured(*runs: Awaitable[float]) -> Measured:
    """Return what runs added to the series."""
    before = totals()
    wall = sum(await asyncio.gather(*runs))
    phases, scoring = (
        {name: total - old[name] for name, total in new.items()} for old, new in zip(before, totals(), strict=True)
    )
    return Measured(phases, scoring, wall)


def totals() -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of all phases, and of both scorers, so far."""
    phases = {phase: sample("gsi_phase_seconds_sum", phase=phase) for phase in PHASES}
    return phases, {role: sample("gsi_scoring_seconds_sum", role=role) for role in ("target", "prm")}


def sample(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None
    return value


@pytest.fixture
def coordinator(redis: Redis, queue: str) -> Coordinator:
    return Coordinator(redis, queue)


CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "gsi": ({}, {"draft", "score"}),
    "resampled": ({"acceptance_threshold": 5}, {"draft", "score", "resample"}),
    "target": ({"method": "soft-best-of-n", "role": "target"}, {"target"}),
    "draft": ({"method": "draft"}, {"draft"}),
    "beams": ({"method": "beam-search"}, {"draft", "score"}),
    "responses": ({"method": "best-of-n", "scope": "responses", "aggregate": "minimum"}, {"draft", "score"}),
}


@pytest.mark.parametrize(("params", "phases"), CASES.values(), ids=CASES)
async def test_the_phases_add_up_to_the_time_of_the_steps(
    coordinator: Coordinator, params: dict[str, Any], phases: set[str]
) -> None:
    """Measured by another clock, for all writers and for any number of trajectories side by side."""
    spent = await measured(coordinator.run(**params))
    assert sum(spent.phases.values()) == pytest.approx(spent.wall, abs=0.01)
    assert min(spent.phases.values()) >= 0
    of_models = {name: seconds for name, seconds in spent.phases.items() if name in phases}
    assert all(seconds >= DRAFTING for seconds in of_models.values())
    own = sum(spent.phases[name] for name in ("checkpoint", "wait", "overhead"))
    assert 0 < own < SLACK
    assert sum(of_models.values()) + own == pytest.approx(spent.wall, abs=0.01)


async def test_a_slow_prm_shows_in_the_time_of_scoring(coordinator: Coordinator) -> None:
    """In the PRM's scoring time and in the phase score, and neither in the target's nor in the phase draft."""
    fast = await measured(coordinator.run())
    coordinator.models.prm.seconds += SLOWER
    slow = await measured(coordinator.run())
    lost = 2 * NUM_STEPS * SLOWER - 2 * NUM_STEPS * DRAFTING  # two batches a step, and drafting hides a part
    assert slow.phases["score"] - fast.phases["score"] > lost
    assert slow.scoring["prm"] - fast.scoring["prm"] > lost
    for name in ("draft", "checkpoint", "wait", "overhead"):
        assert slow.phases[name] - fast.phases[name] < SLACK
    assert slow.scoring["target"] - fast.scoring["target"] < SLACK
    assert slow.scoring["prm"] < slow.phases["score"] + slow.phases["draft"]


FULL = RetryableError("prm: RESOURCE_EXHAUSTED", service="prm", retry_after_seconds=SLOWER)
AWAY = RetryableError("prm: UNAVAILABLE", service="prm")


@pytest.mark.parametrize("failure", [FULL, AWAY], ids=["full", "away"])
async def test_a_service_that_is_full_or_away_shows_as_waiting(coordinator: Coordinator, failure: Exception) -> None:
    """The failed call counts as waiting; the step's own work counts once, and the overhead does not grow."""
    fast = await measured(coordinator.run())
    coordinator.models.prm.failures = [failure]
    held_up = await measured(coordinator.run())
    assert held_up.phases["wait"] - fast.phases["wait"] >= SLOWER
    for name in ("draft", "score", "checkpoint", "overhead"):
        assert held_up.phases[name] - fast.phases[name] < SLACK
    assert sum(held_up.phases.values()) == pytest.approx(held_up.wall, abs=0.01)


async def test_a_step_that_is_not_let_run_yet_waits(redis: Redis, queue: str) -> None:
    """With a single slot, each of two answers waits for the steps of the other."""
    one, other = Coordinator(redis, f"{queue}-one"), Coordinator(redis, f"{queue}-other")
    one.models.step_limit = other.models.step_limit = StepLimit(1)
    spent = await measured(one.run(), other.run())
    assert spent.phases["wait"] > NUM_STEPS * DRAFTING
    assert spent.phases["overhead"] < SLACK
    assert sum(spent.phases.values()) == pytest.approx(spent.wall, abs=0.02)


seconds = st.floats(0, 100)


@given(st.lists(st.tuples(seconds, seconds, seconds, seconds, st.booleans()), min_size=1, max_size=5))
def test_what_the_models_took_is_the_longest_trajectory_s_time(
    times: list[tuple[float, float, float, float, bool]],
) -> None:
    """The phases are never negative and add up to the step's time, whatever the other trajectories took."""
    proposals = []
    for parent, (drafting, prm, target, anew, is_resampled) in enumerate(times):
        drafted = {"propose": drafting, "prm": prm, "target": target}
        proposals.append(Proposal(Source.DRAFT, (), {}, drafted, parent=parent))
        if is_resampled:
            proposals.append(Proposal(Source.TARGET, (), {}, {"propose": anew}, parent=parent))
    made = Round((Branch(0, None),), tuple(proposals))
    phases = model_phases(made)
    assert sum(phases.values()) == pytest.approx(made.seconds)
    assert min(phases.values()) >= 0
    assert made.seconds == pytest.approx(max(max(row[:3]) + row[3] * row[4] for row in times))
