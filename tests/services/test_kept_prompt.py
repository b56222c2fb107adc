"""The rendered prompt is kept with the steps: a job that resumes does not ask for the prompt again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches
from gsi.grading.equality import EqualityChecker
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.kept_prompt import PROMPT_FIELD, KeptPrompt
from gsi.jobs.keys import Keys
from gsi.jobs.newer_jobs import NewerJobs
from gsi.jobs.reader import JobReader
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter
from services.coordinator.runner import JobRunner
from tests.services.test_phases import FakeModels, HeldLeases, Slow

NUM_STEPS = 3
TODAY, TOMORROW = (1, 2, 3), (1, 2, 4)  # what a template with a date writes


@dataclass
class DatedDraft(Slow):
    """Renders what its template writes that day; its first call for the third step fails."""

    writes: tuple[int, ...] = TODAY
    num_rendered: int = 0
    has_failed: bool = False
    prefixes: list[tuple[int, ...]] = field(default_factory=list)

    async def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        self.num_rendered += 1
        return self.writes

    async def render_with_text(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], str]:
        return await self.render(messages), f"rendered as {self.writes}"

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        if len(prefix) > len(TODAY) + 2 and not self.has_failed:
            self.has_failed = True
            raise RuntimeError("the run ends here")
        self.prefixes.append(tuple(prefix))
        async for batch in super().propose(prefix, n, sampling, seed):
            yield batch


class Queue:
    """A queue with one job and a runner."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.draft = DatedDraft(0.0)
        self.redis: Any = redis
        self.keys = keys
        self.reader = JobReader(redis, keys)
        self._submitter, self._stream = JobSubmitter(redis, keys), JobStream(redis, keys, "worker")
        self._writer = JobWriter(redis, keys)
        models: Any = FakeModels()
        models.draft, models.ports = self.draft, type(models.ports)(self.draft, models.target, models.prm)
        leases: Any = HeldLeases()
        newer_jobs = NewerJobs(redis, keys, self._writer)
        self._runner = JobRunner(self._writer, self.reader, models, leases, EqualityChecker(), newer_jobs, 0.001)

    async def begin(self, **params: object) -> None:
        """Run the job until its third step fails."""
        payload = parse_payload({"prompt": "2 + 3", "params": {"n": 2, "max_steps": NUM_STEPS, **params}})
        await self._stream.create_group()
        await self._submitter.submit(Job("job", payload))
        await self._run()

    async def resume(self) -> dict[str, str]:
        """Run the job to its end, with the template of tomorrow; return the fields of its record."""
        self.draft.writes = TOMORROW
        while not await self._writer.promote_due():
            pass
        await self._run()
        record = await self.reader.record("job")
        assert record is not None
        assert (record.state, len(record.steps)) == ("SUCCEEDED", NUM_STEPS), record.fields
        return record.fields

    async def _run(self) -> None:
        (delivery,) = await self._stream.take_new(1, 1000)
        await self._runner.run(delivery)


@pytest.fixture
def job(redis: Redis, queue: str) -> Queue:
    return Queue(redis, Keys(queue))


async def test_a_job_that_resumes_continues_the_prompt_that_it_began_with(job: Queue) -> None:
    """Its last step follows tokens that its first ones followed, whatever the template writes by then."""
    await job.begin()
    await job.resume()
    assert job.draft.num_rendered == 1
    assert len(job.draft.prefixes) == NUM_STEPS
    assert {prefix[: len(TODAY)] for prefix in job.draft.prefixes} == {TODAY}


async def test_the_text_of_the_prompt_is_kept_too(job: Queue) -> None:
    """A job that keeps its candidates reports the prompt that its steps follow."""
    await job.begin(keep_candidates=True)
    fields = await job.resume()
    assert fields["rendered_prompt"] == f"rendered as {TODAY}"


async def test_a_job_of_an_older_release_is_rendered_again_and_then_keeps_its_prompt(job: Queue) -> None:
    """Its record has steps and no prompt."""
    await job.begin()
    await job.redis.hdel(job.keys.record("job"), PROMPT_FIELD)
    await job.resume()
    assert job.draft.num_rendered == 2
    assert job.draft.prefixes[-1][: len(TOMORROW)] == TOMORROW


async def test_a_finished_job_has_no_copy_of_its_prompt(job: Queue) -> None:
    """Only a job that may be resumed needs it."""
    await job.begin()
    assert await job.reader.prompt("job") == KeptPrompt(token_ids=TODAY)
    assert PROMPT_FIELD not in await job.resume()
