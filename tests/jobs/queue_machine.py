"""A machine that breaks promises of the queue if it can: random schedules over the real scripts and a real server.

Coordinators are given entries, take jobs, write them and stall, before or after any command; users push, push again,
cancel and delete; time ends leases, delays and lifetimes; the server loses its last writes. A delivery or a lease is
never thrown away, so that a stalled coordinator may act on it at any later moment. After every action the machine reads
all keys of the queue and checks what must always hold; at the end a healthy coordinator can finish all jobs.
"""

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ResponseError

from gsi.jobs.connection import Redis
from gsi.jobs.dead_letters import DeadLetters
from gsi.jobs.errors import JobConflictError
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.keys import GROUP, JOB_FIELD, Key, Keys
from gsi.jobs.policy import Policy
from gsi.jobs.reader import JobReader
from gsi.jobs.scripts.loader import SOURCES
from gsi.jobs.state import JobState
from gsi.jobs.stream import Delivery, JobStream
from gsi.jobs.submission import Submission
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter, Lease, LeaseLostError
from gsi.local.embedded_redis import embedded_redis
from tests.jobs.queue_snapshot import IDS, TENANT, QueueSnapshots, SavedKey, Seen, SeenJob
from tests.jobs.sample import renew, step

POLICY = Policy(max_attempts=2, max_jobs_per_tenant=1, result_seconds=1e6, dead_seconds=1e6)
NUM_ACTIONS = 20
UNFINISHED = (JobState.QUEUED, JobState.RUNNING)

ids = st.sampled_from(("job-0", "job-0", "job-0", "job-1"))  # most often the same: what happens to one job matters
questions = st.sampled_from(("one?", "two?"))
consumers = st.sampled_from(("a", "b"))
recent = st.sampled_from((0, 0, 1, 1, 2, 3))  # 0: the newest
T = TypeVar("T")
_numbers = itertools.count()


@dataclass
class Run:
    """What a coordinator knows of a job that it has taken: the lease, the question, and the step to make next."""

    lease: Lease
    question: str
    next_step: int


@dataclass
class Saved:
    """The queue's keys and what the machine knew, when the server last wrote its file."""

    keys: Mapping[Key, SavedKey]
    writers: dict[str, str]
    questions: dict[str, str]
    seen: Seen = field(repr=False)


class QueueMachine(RuleBasedStateMachine):
    """One queue, two ids, one tenant with one place in flight, two coordinators that try a job twice."""

    redis: Redis
    runner: asyncio.Runner

    @initialize()
    def start(self) -> None:
        self.keys = Keys(f"machine-{next(_numbers)}")
        self.server: Any = self.redis
        self.snapshots = QueueSnapshots(self.redis, self.keys)
        self.submitter = JobSubmitter(self.redis, self.keys, POLICY)
        self.writer = JobWriter(self.redis, self.keys, POLICY)
        self.reader, self.dead = JobReader(self.redis, self.keys), DeadLetters(self.redis, self.keys)
        self.deliveries: list[Delivery] = []
        self.runs: list[Run] = []
        self.writers: dict[str, str] = {}  # by id, the nonce of the one that may write the job
        self.questions: dict[str, str] = {}  # by id, what the present job asks
        self.wait(JobStream(self.redis, self.keys, "").create_group())
        self.before = self.wait(self.snapshots.look())
        self.saved: Saved | None = None

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # --- What users do ---------------------------------------------------------------------------------------------

    @rule(job_id=ids, question=questions)
    def submit(self, job_id: str, question: str) -> None:
        job = Job(job_id, parse_payload({"prompt": question, "tenant": TENANT}))
        digest = Submission.of(job).digest
        is_same = self.before.jobs[job_id].fields.get("digest", digest) == digest
        try:
            self.wait(self.submitter.submit(job))
        except JobConflictError:
            assert not is_same, "the same question was refused"
        else:
            assert is_same, "another question was taken for the job's own"

    @rule(job_id=ids, question=questions)
    def push_without_the_sdk(self, job_id: str, question: str) -> None:
        payload = json.dumps({"id": job_id, "prompt": question, "tenant": TENANT})
        self.wait(self.server.xadd(self.keys.jobs, {JOB_FIELD: payload}))

    @rule(job_id=ids, may_be_unseen=st.booleans())
    def cancel(self, job_id: str, *, may_be_unseen: bool) -> None:
        self.wait(self.submitter.cancel(job_id, "not needed", may_be_unseen=may_be_unseen))

    @rule(job_id=ids, how=st.sampled_from(("forget", "expire", "purge", "revive")))
    def end_a_life(self, job_id: str, how: str) -> None:
        """A finished job is deleted, by a person or at the end of its lifetime, or a dead one is pushed again."""
        if how == "forget":
            self.wait(self.reader.forget(job_id))
        elif how == "purge":
            self.wait(self.dead.purge())
        elif how == "revive":
            self.wait(self.dead.retry_all())
        elif self.before.jobs[job_id].lifetimes[0] >= 0:
            self.wait(self.server.delete(self.keys.record(job_id), self.keys.steps(job_id)))

    # --- What coordinators do --------------------------------------------------------------------------------------

    @rule(consumer=consumers, is_taken=st.booleans())
    def deliver(self, consumer: str, *, is_taken: bool) -> None:
        answer = self.wait(self.server.xreadgroup(GROUP, consumer, {self.keys.jobs: ">"}, count=1))
        self._note_deliveries(consumer, [entry for _, entries in answer for entry in entries], is_taken=is_taken)

    @rule(consumer=consumers, which=recent, is_taken=st.booleans())
    def take_over(self, consumer: str, which: int, *, is_taken: bool) -> None:
        """A lease has ended: another coordinator, or the same, is given its entry."""
        pending = sorted(self.before.pending)
        if pending:
            entry = pending[which % len(pending)]
            claimed = self.wait(self.server.xclaim(self.keys.jobs, GROUP, consumer, 0, [entry]))
            self._note_deliveries(consumer, [each for each in claimed if each[0] is not None], is_taken=is_taken)

    @precondition(lambda self: self.deliveries)
    @rule(which=recent, is_answer_lost=st.booleans())
    def take(self, which: int, *, is_answer_lost: bool) -> None:
        """A coordinator that stalled, or was killed after the call, takes a job."""
        self._take(_recent(self.deliveries, which), is_answer_lost=is_answer_lost)

    def _take(self, delivery: Delivery, *, is_answer_lost: bool) -> None:
        claimed = claim(delivery.payload)
        job_id = claimed.id or ""
        lease = self.wait(self.writer.take(job_id, delivery, TENANT))
        if lease is None:
            return
        self.writers[job_id] = lease.nonce
        if not is_answer_lost:
            assert claimed.payload is not None
            num_kept = len(self.wait(self.reader.steps(job_id)))
            self.runs.append(Run(lease, claimed.payload.prompt or "", num_kept))

    @precondition(lambda self: self.runs)
    @rule(which=recent, is_answer_lost=st.booleans())
    def append_step(self, which: int, *, is_answer_lost: bool) -> None:
        run = _recent(self.runs, which)
        try:
            self.wait(self.writer.append_step(run.lease, step(run.next_step, run.question)))
        except (LeaseLostError, ResponseError):
            return
        self._expect_writer(run)
        if not is_answer_lost:
            run.next_step += 1

    @precondition(lambda self: self.runs)
    @rule(which=recent)
    def commit(self, which: int) -> None:
        run = _recent(self.runs, which)
        try:
            self.wait(self.writer.commit(run.lease, JobResult(JobState.SUCCEEDED, text=run.question)))
        except LeaseLostError:
            return
        self._expect_writer(run)

    @precondition(lambda self: self.runs)
    @rule(which=recent, counts=st.booleans())
    def retry(self, which: int, *, counts: bool) -> None:
        """A run has failed; or it was none, because a newer release wrote the job."""
        run = _recent(self.runs, which)
        try:
            self.wait(self.writer.retry(run.lease, "prm: INTERNAL", delay_seconds=0, counts=counts))
        except LeaseLostError:
            return
        self._expect_writer(run)

    @precondition(lambda self: self.runs)
    @rule(which=recent, is_handed_back=st.booleans())
    def renew_or_hand_back(self, which: int, *, is_handed_back: bool) -> None:
        lease = _recent(self.runs, which).lease
        self.wait(self.writer.hand_back(lease, 1000) if is_handed_back else renew(self.writer, lease))

    @rule()
    def promote_and_unpark(self) -> None:
        self.wait(self.writer.promote_due())
        self.wait(self.writer.unpark_all())

    @rule(job_id=ids)
    def another_finishes(self, job_id: str) -> None:
        """A third coordinator takes a job over and finishes it, and its lifetime ends: a long stall of the first."""
        entry = self.before.jobs[job_id].fields.get("entry_id")
        if entry not in self.before.pending:
            return
        claimed = self.wait(self.server.xclaim(self.keys.jobs, GROUP, "c", 0, [entry]))
        self._note_deliveries("c", claimed, is_taken=True)
        self.all_is_as_promised()
        if self.runs and self.runs[-1].lease.consumer == "c":
            self.commit(which=0)
            self.all_is_as_promised()
            self.end_a_life(job_id, "expire")

    # --- What the server does --------------------------------------------------------------------------------------

    @rule()
    def save(self) -> None:
        self.saved = Saved(self.wait(self.snapshots.save()), dict(self.writers), dict(self.questions), self.before)

    @precondition(lambda self: self.saved)
    @rule()
    def lose_writes(self) -> None:
        """The server starts again with what its file had. Coordinators still believe what they were told since."""
        assert self.saved is not None
        self.wait(self.snapshots.restore(self.saved.keys))
        self.writers, self.questions = dict(self.saved.writers), dict(self.saved.questions)
        self.before = self.saved.seen

    @precondition(lambda self: self.deliveries)
    @rule(which=recent)
    def lose_a_take(self, which: int) -> None:
        """The last that the server forgets is that a coordinator has taken a job."""
        self.save()
        self._take(_recent(self.deliveries, which), is_answer_lost=False)
        self.lose_writes()

    # --- What must hold --------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_promised(self) -> None:
        if not hasattr(self, "before"):
            return  # before the start
        now = self.wait(self.snapshots.look())
        self.check(now)
        self.before = now

    def check(self, now: Seen) -> None:
        for job_id, job in now.jobs.items():
            self._check_place(job_id, job, now)
            self._check_content(job_id, job)
            self._check_end(job_id, job, now)
        counted = sum("reserved" in job.fields for job in now.jobs.values() if job.state in UNFINISHED)
        assert now.in_flight == ({TENANT: counted} if counted else {}), "a place in flight has leaked"
        assert counted <= POLICY.max_jobs_per_tenant, "a tenant has too many jobs in flight"
        assert now.parked_tenants == ({TENANT} if now.parked else set()), "the set of parked tenants is wrong"

    def _check_place(self, job_id: str, job: SeenJob, now: Seen) -> None:
        """An unfinished job is in exactly one place; a running job has one writer; no list has another job."""
        entry = job.fields.get("entry_id")
        waits = now.delayed.count(job_id) + now.parked.count(job_id)
        if job.state not in UNFINISHED:
            assert waits == 0, f"{job_id} is {job.state}, and delayed or parked"
            assert "reserved" not in job.fields, f"{job_id} is {job.state}, and counts as in flight"
            return
        assert waits + (entry in now.entries) == 1, f"{job_id} is {job.state}, and in {waits} lists, with entry {entry}"
        assert (entry is None) == (waits == 1), f"{job_id} waits, and its record names an entry"
        if job.state is JobState.RUNNING:
            assert entry in now.pending, f"{job_id} runs, and no coordinator holds its entry"
            assert job.fields["nonce"] == self.writers[job_id], f"{job_id} is written by another than the last taker"

    def _check_content(self, job_id: str, job: SeenJob) -> None:
        """What is kept of a job belongs to its question, and was written by one coordinator after the other."""
        if "payload" in job.fields and (self.before.jobs[job_id].state is None or job_id not in self.questions):
            self.questions[job_id] = json.loads(job.fields["payload"])["prompt"]
        question = self.questions.get(job_id)
        texts = {json.loads(each["step"])["text"] for each in job.steps} | {job.fields.get("text") or question}
        assert texts <= {question}, f"{job_id} asks {question}; kept: {texts}"
        tokens = [int(each["token"]) for each in job.steps]
        assert tokens == sorted(tokens), f"{job_id}: an older writer's step follows a newer one's"

    def _check_end(self, job_id: str, job: SeenJob, now: Seen) -> None:
        """A job has one result and one dead letter for each time that it ends, and what is left of it expires."""
        before = self.before.jobs[job_id].state
        has_ended = job.state not in (*UNFINISHED, None) and before in (*UNFINISHED, None)
        announced = now.results[job_id] - self.before.results[job_id]
        assert announced == has_ended, f"{job_id}: {before} -> {job.state} was announced {announced} times"
        buried = now.dead[job_id] - self.before.dead[job_id]
        assert buried <= (has_ended and job.state is JobState.DEAD), f"{job_id}: {job.state} with {buried} dead letters"
        is_delivered = job.fields.get("entry_id") not in now.entries
        if job.state not in (*UNFINISHED, None) and is_delivered:
            assert -1 not in job.lifetimes, f"{job_id} is {job.state}, and does not expire: {job.lifetimes}"
        if job.state is None:
            assert job.lifetimes == (-2, -2), f"{job_id} is deleted, and its steps are not"

    def teardown(self) -> None:
        """A healthy coordinator finishes every job, and nothing is left."""
        if not hasattr(self, "before"):
            return
        for _ in range(4 * len(IDS) + 2 * len(self.before.entries)):
            self.wait(self._work_once())
        seen = self.wait(self.snapshots.look())
        unfinished = {job_id: job.state for job_id, job in seen.jobs.items() if job.state in UNFINISHED}
        assert unfinished == {}, f"jobs that nobody can finish: {unfinished}"
        assert (seen.entries, seen.delayed, seen.parked, seen.in_flight) == (set(), [], [], {})
        self.wait(self.snapshots.delete())

    async def _work_once(self) -> None:
        await self.writer.promote_due()
        await self.writer.unpark_all()
        answer = await self.server.xreadgroup(GROUP, "healthy", {self.keys.jobs: ">"}, count=10)
        entries = [entry for _, entries in answer for entry in entries]
        _, abandoned, _ = await self.server.xautoclaim(self.keys.jobs, GROUP, "healthy", 0)
        for entry_id, fields in [*entries, *abandoned]:
            delivery = _delivery(entry_id, fields, self.keys, "healthy")
            claimed = claim(delivery.payload)
            lease = await self.writer.take(claimed.id or "", delivery, TENANT)
            if lease is not None:
                await self.writer.commit(lease, JobResult(JobState.SUCCEEDED))

    # --- What the machine knows of coordinators --------------------------------------------------------------------

    def _note_deliveries(self, consumer: str, entries: Sequence[Any], *, is_taken: bool) -> None:
        """Remember what a coordinator is given; it takes it at once unless it stalls."""
        self.deliveries += [_delivery(entry_id, fields, self.keys, consumer) for entry_id, fields in entries]
        if entries and is_taken:
            self._take(self.deliveries[-1], is_answer_lost=False)

    def _expect_writer(self, run: Run) -> None:
        """A call that was not refused came from the coordinator that took the job last."""
        assert self.writers.get(run.lease.job_id) == run.lease.nonce, f"{run.lease.job_id}: an older writer was obeyed"


def _delivery(entry_id: bytes, fields: dict[bytes, bytes], keys: Keys, consumer: str) -> Delivery:
    return Delivery(entry_id.decode(), fields[JOB_FIELD.encode()], keys.jobs, consumer)


def _recent(things: Sequence[T], which: int) -> T:
    return things[-1 - which % len(things)]


def explore(redis_url: str, num_schedules: int, chosen_seed: int | None = None) -> None:
    """Run schedules. Raises the AssertionError that says which promise was broken, with the schedule.

    ``chosen_seed`` None: the same schedules each time.
    """
    with asyncio.Runner() as runner:
        redis = Redis.from_url(redis_url, single_connection_client=True)
        machine = type("QueueMachine", (QueueMachine,), {"redis": redis, "runner": runner})
        chosen = settings(
            max_examples=num_schedules,
            stateful_step_count=NUM_ACTIONS,
            derandomize=chosen_seed is None,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        made = machine if chosen_seed is None else seed(chosen_seed)(machine)
        try:
            run_state_machine_as_test(made, settings=chosen)
        finally:
            runner.run(redis.aclose())


@contextmanager
def fault_put_back(*replacements: tuple[str, str]) -> Iterator[None]:
    """Replace text in whatever scripts have it, for this block."""
    with pytest.MonkeyPatch.context() as patch:
        for old, new in replacements:
            having = [name for name, source in SOURCES.items() if old in source]
            assert having, f"no script has {old!r}"
            for name in having:
                patch.setitem(SOURCES, name, SOURCES[name].replace(old, new))
        yield


def main() -> None:
    """Search for long: ``python -m tests.jobs.queue_machine --schedules 20000``."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.queue_machine")
    parser.add_argument("--schedules", type=int, default=20_000, help="how many")
    parser.add_argument("--seed", type=int, help="of the schedules; default: another one each time")
    given = parser.parse_args()
    chosen = random.randrange(2**32) if given.seed is None else given.seed
    started = time.monotonic()
    with embedded_redis() as redis_url:
        explore(redis_url, given.schedules, chosen)
    print(json.dumps({"schedules": given.schedules, "seed": chosen, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
