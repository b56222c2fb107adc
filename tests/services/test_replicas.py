"""Several replicas of a service behind one name of a real DNS server: which replica gets a call, and until when."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from gsi.algorithm.candidates import Candidate, FinishReason, Message
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import LabelProbabilities
from gsi.client.sdk import AsyncClient
from gsi.errors import RetryableError
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.embedded_redis import free_port
from gsi.model_info import ModelInfo
from gsi.rpc import connection
from gsi.rpc.clients import DraftClient
from services.coordinator import models as models_module
from services.coordinator.__main__ import coordinate
from services.coordinator.models import Models, open_models
from services.coordinator.retries import call_with_retries
from services.coordinator.settings import CoordinatorSettings
from services.draft import servicer as draft_servicer
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.services.conftest import ROLES, Serving, client_of, load_shipped, serving
from tests.services.names import NAME, Names, name_server
from tests.services.test_compatibility import DRAFT, PRM, TARGET

SAMPLING = SamplingParams(max_step_tokens=32)
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
AGE_SECONDS = 1.0
CALL_SECONDS = 0.02


class Replica:
    """Proposes one candidate after a while, whose text is the replica's host; counts its calls."""

    def __init__(self, host: str, info: ModelInfo = DRAFT, seconds: float = CALL_SECONDS) -> None:
        self.host = host
        self.info = info
        self.num_calls = 0
        self.last_call_at = 0.0
        self.seconds = seconds

    async def propose(
        self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
    ) -> AsyncIterator[Sequence[Candidate]]:
        self.num_calls += 1
        self.last_call_at = time.monotonic()
        await asyncio.sleep(self.seconds)
        yield [Candidate(0, (1,), self.host, -1.0, FinishReason.EOS)]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        """Answer with the place of the replica's host, as the number of tokens."""
        self.num_calls += 1
        return LabelProbabilities((1.0,), HOSTS.index(self.host))

    async def wait_until_dead(self) -> str:
        await asyncio.Event().wait()
        return "never"

    def close(self) -> None:
        pass


def serving_replica(
    replica: Any, port: int, role: str = "draft", **settings: Any
) -> AbstractAsyncContextManager[Serving]:
    async def load() -> Any:
        return replica

    servicer, _ = ROLES[role]
    given = {"max_connection_age_seconds": AGE_SECONDS, "grace_seconds": 5} | settings
    return serving(servicer.SERVICE, servicer.add_to_server, load, f"{replica.host}:{port}", **given)


@asynccontextmanager
async def calling(target: str, **options: Any) -> AsyncIterator[DraftClient]:
    client = DraftClient(target, 10.0, **options)
    yield client
    await client.close()


async def answer(client: DraftClient) -> str:
    """Return which replica answers a call."""
    texts = [candidate.text async for batch in client.propose((1,), 1, SAMPLING, 0) for candidate in batch]
    assert len(texts) == 1
    return texts[0]


@asynccontextmanager
async def many_calls(client: DraftClient, num_callers: int = 8) -> AsyncIterator[list[str]]:
    """Make calls all the time, and yield the hosts that answered; a call that fails fails the test."""
    answers: list[str] = []
    is_over = asyncio.Event()

    async def call() -> None:
        while not is_over.is_set():
            answers.append(await answer(client))

    async with asyncio.TaskGroup() as callers:
        for _ in range(num_callers):
            callers.create_task(call())
        try:
            yield answers
        finally:
            is_over.set()


async def test_calls_take_turns_and_replicas_come_and_go_without_a_call_that_fails() -> None:
    """A new replica gets its share within a connection's age; a draining replica gets no more calls."""
    replicas, port = [Replica(host) for host in HOSTS], free_port(HOSTS[0])
    first, second, third = replicas
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(name_server(*HOSTS[:2]))
        serve = [serving_replica(replica, port, drain_pause_seconds=1.0) for replica in replicas]
        servers = [await stack.enter_async_context(serving) for serving in serve]
        client = await stack.enter_async_context(calling(names.target(port)))
        await wait_until(client.is_serving, "a replica serves")
        answers = await stack.enter_async_context(many_calls(client))

        await wait_until(lambda: _has(min(first.num_calls, second.num_calls) >= 20), "both work")
        start = len(answers)
        await wait_until(lambda: _has(len(answers) >= start + 200), "200 calls more")
        assert abs(answers[start:].count(first.host) - answers[start:].count(second.host)) <= 20
        assert third.num_calls == 0

        names.addresses.append(third.host)
        added_at = time.monotonic()
        await wait_until(lambda: _has(third.num_calls > 0), "the third works")
        assert time.monotonic() - added_at < AGE_SECONDS * 1.1 + 3.0  # and a second between two questions

        servers[0].stop.set()  # SIGTERM
        stopped_at = time.monotonic()
        await servers[0].task
        names.addresses.remove(first.host)
        assert first.last_call_at < stopped_at + 0.6, "its health tells at once, long before it refuses calls"
        assert time.monotonic() - stopped_at < 4.0, "it has no call to wait for"
        start = len(answers)
        await wait_until(lambda: _has(len(answers) >= start + 100), "100 calls more")
        assert set(answers[start:]) == {second.host, third.host}


async def _has(value: bool) -> bool:
    return value


async def test_the_age_of_a_connection_ends_no_call() -> None:
    """A stream over many ages ends as it would; no call beside it fails, with a single replica."""
    replica, port = Replica(HOSTS[0], seconds=3.0), free_port(HOSTS[0])
    async with (
        name_server(HOSTS[0]) as names,
        serving_replica(replica, port, max_connection_age_seconds=0.5),
        calling(names.target(port)) as client,
    ):
        await wait_until(client.is_serving, "it serves")
        asked = names.num_questions
        long_call = asyncio.create_task(answer(client))
        await wait_until(lambda: _has(replica.num_calls == 1), "the long call has begun")
        replica.seconds = CALL_SECONDS
        async with many_calls(client) as answers:
            assert await long_call == HOSTS[0]
        assert len(answers) > 100
        assert names.num_questions >= asked + 4, "new connections were made"


async def test_a_name_may_have_a_replica_that_is_not_there_or_loads() -> None:
    """Calls go to the ready replicas; one ready replica is enough for the service to serve."""
    working, port = Replica(HOSTS[0]), free_port(HOSTS[0])
    never = asyncio.Event()

    async def load_for_ever() -> Any:
        await never.wait()
        return Replica(HOSTS[1])

    loading = serving(draft_servicer.SERVICE, draft_servicer.add_to_server, load_for_ever, f"{HOSTS[1]}:{port}")
    async with (
        name_server(*HOSTS) as names,
        serving_replica(working, port),
        loading,
        calling(names.target(port)) as client,
    ):
        await wait_until(client.is_serving, "one of three serves")
        assert {await answer(client) for _ in range(20)} == {HOSTS[0]}
        assert {await client.is_serving() for _ in range(20)} == {True}
        never.set()


async def test_a_replica_that_is_lost_in_the_middle_of_a_call_is_made_up_for_by_another() -> None:
    """The error says that the call may be retried; later calls do not go to the lost replica."""
    lost, port = Replica(HOSTS[0], seconds=60.0), free_port(HOSTS[0])
    async with name_server(HOSTS[0]) as names, AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving_replica(lost, port, grace_seconds=0))
        client = await stack.enter_async_context(calling(names.target(port)))
        await wait_until(client.is_serving, "it serves")
        call = asyncio.create_task(answer(client))
        await wait_until(lambda: _has(lost.num_calls == 1), "the call has begun")
        other = Replica(HOSTS[1])
        await stack.enter_async_context(serving_replica(other, port))
        names.addresses = [*HOSTS[:2]]
        server.stop.set()
        with pytest.raises(RetryableError) as raised:
            await call
        assert raised.value.is_away
        assert raised.value.has_reached
        await wait_until(client.is_serving, "the other serves")
        assert [await answer(client) for _ in range(10)] == [HOSTS[1]] * 10


async def test_a_replica_with_a_new_address_is_found_after_a_while_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single replica is replaced and loads for minutes; until then its name has no address."""
    monkeypatch.setattr(connection, "RESOLVE_SECONDS", 0.25)
    port = free_port(HOSTS[0])
    async with (
        name_server(HOSTS[0]) as names,
        serving_replica(Replica(HOSTS[1]), port),
        calling(names.target(port)) as client,
    ):
        async with serving_replica(Replica(HOSTS[0]), port):
            await wait_until(client.is_serving, "the old one serves")
        names.addresses.clear()
        asked, gone_at = names.num_questions, time.monotonic()
        while time.monotonic() - gone_at < 4.0:
            assert not await client.is_serving()
            await asyncio.sleep(0.05)
        assert names.num_questions - asked >= 14, "gRPC itself asks three times, for two kinds of address"
        names.addresses.append(HOSTS[1])
        await wait_until(client.is_serving, "the new one is found")
        assert await answer(client) == HOSTS[1]


async def test_a_certificate_names_the_host_that_coordinators_call(tmp_path: Path) -> None:
    """TLS verifies the name that was looked up, not the address behind it."""
    authority, port = Authority(tmp_path), free_port(HOSTS[0])
    hosts = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    own = authority.issue("draft", hosts=hosts).settings()
    files = authority.issue("coordinator").files()
    async with name_server(HOSTS[0]) as names, serving_replica(Replica(HOSTS[0]), port, **own):
        async with calling(names.target(port), files=files) as client:
            await wait_until(client.is_serving, "it serves")
            assert await answer(client) == HOSTS[0]
        async with calling(names.target(port, "another.test"), files=files) as client:
            with pytest.raises(RetryableError, match="Hostname Verification Check failed"):
                await answer(client)


@asynccontextmanager
async def connected_models(names: Names, port: int) -> AsyncIterator[Models]:
    """Yield a coordinator's view of the services; the draft has the DNS name, target and PRM have one replica each."""
    async with AsyncExitStack() as stack:
        others = {"target": Replica("127.0.0.1", TARGET), "prm": Replica("127.0.0.1", PRM)}
        ports = {role: free_port() for role in others}
        for role, replica in others.items():
            await stack.enter_async_context(serving_replica(replica, ports[role], role))
        addresses: dict[str, Any] = {role: f"127.0.0.1:{ports[role]}" for role in others}
        settings = CoordinatorSettings(draft="127.0.0.1:1", **addresses)
        models = await stack.enter_async_context(open_models(settings.model_copy(update={"draft": names.target(port)})))
        await models.connect()
        yield models


FOREIGN = replace(DRAFT, model="foreign", tokenizer_fingerprint="fedcba9876543210")


async def test_a_replica_with_another_tokenizer_answers_nothing_that_is_used() -> None:
    """Its token ids would mean other tokens. Other replicas are asked instead, and the log says it once."""
    port = free_port(HOSTS[0])
    good, stranger = Replica(HOSTS[0]), Replica(HOSTS[1], FOREIGN)
    async with (
        name_server(HOSTS[0]) as names,
        serving_replica(good, port),
        serving_replica(stranger, port),
        connected_models(names, port) as models,
    ):
        with capture_logs() as logs:
            names.addresses.append(stranger.host)
            await wait_until(lambda: _met(models, stranger), "the stranger is asked")
            answers = [await call_with_retries(models, partial(answer, models.draft)) for _ in range(10)]
        assert set(answers) == {good.host}
        assert models.draft.model == DRAFT
    told = [entry for entry in logs if entry["event"] == "a replica has another model; its answers are not used"]
    assert [(entry["service"], entry["model"], entry["ours"]) for entry in told] == [("draft", "foreign", "small")]


async def _met(models: Models, stranger: Replica) -> bool:
    with suppress(RetryableError):
        assert await answer(models.draft) != stranger.host
    return stranger.num_calls > 0


@pytest.mark.parametrize("new", [replace(DRAFT, revision="2"), replace(DRAFT, engine_version="6")])
async def test_a_model_that_all_replicas_have_changed_to_is_worked_with_if_it_fits(new: ModelInfo) -> None:
    """The service was never unavailable meanwhile; a result names the models of its time."""
    port = free_port(HOSTS[0])
    async with name_server(HOSTS[0]) as names, AsyncExitStack() as stack:
        old = await stack.enter_async_context(serving_replica(Replica(HOSTS[0]), port, drain_pause_seconds=0.5))
        models = await stack.enter_async_context(connected_models(names, port))
        await stack.enter_async_context(serving_replica(Replica(HOSTS[1], new), port))
        names.addresses.append(HOSTS[1])
        while await call_with_retries(models, partial(answer, models.draft)) == HOSTS[0]:
            old.stop.set()
        assert models.draft.model in (new, DRAFT)
        assert models.draft.model is not None
        assert new.is_same_model(models.draft.model)


async def test_a_model_that_does_not_fit_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All replicas came back with a foreign tokenizer, and no call succeeds until a model fits again."""
    monkeypatch.setattr(models_module, "MISFIT_SECONDS", 0.1)
    port = free_port(HOSTS[0])
    async with name_server(HOSTS[0]) as names, AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving_replica(Replica(HOSTS[0]), port))
        models = await stack.enter_async_context(connected_models(names, port))
        first.stop.set()
        await first.task
        foreign = await stack.enter_async_context(serving_replica(Replica(HOSTS[0], FOREIGN), port))
        with capture_logs() as logs:
            call = asyncio.create_task(call_with_retries(models, partial(answer, models.draft)))
            await wait_until(lambda: _has("came back with another model" in str(logs)), "the misfit is told")
        assert not call.done()
        foreign.stop.set()
        await foreign.task
        await stack.enter_async_context(serving_replica(Replica(HOSTS[0]), port))
        assert await asyncio.wait_for(call, 20) == HOSTS[0]


class SharedEngine(Replica):
    """A replica of the shipped draft. All replicas share one engine, and each counts its calls."""

    def __init__(self, host: str, engine: Any) -> None:
        super().__init__(host, engine.info)
        self._engine = engine

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        token_ids: tuple[int, ...] = self._engine.render(messages)
        return token_ids

    def propose(
        self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
    ) -> AsyncIterator[Sequence[Candidate]]:
        self.num_calls += 1
        proposals: AsyncIterator[Sequence[Candidate]] = self._engine.propose(prefix, n, sampling, seed)
        return proposals


async def test_jobs_go_on_while_replicas_are_replaced(redis_url: str, queue: str) -> None:
    """A coordinator that keeps running finishes every job at the first attempt, and the new replica does its share."""
    port, engine = free_port(HOSTS[0]), await load_shipped("draft")
    old, new = SharedEngine(HOSTS[0], engine), SharedEngine(HOSTS[1], engine)
    async with AsyncExitStack() as stack:
        stack.callback(engine.close)
        names = await stack.enter_async_context(name_server(old.host))
        server, _ = [
            await stack.enter_async_context(serving_replica(replica, port, drain_pause_seconds=0.5))
            for replica in (old, new)
        ]
        others: dict[str, Any] = {}
        for role in ("target", "prm"):
            others[role] = (await stack.enter_async_context(client_of(role))).address  # one model is loaded at a time
        settings = CoordinatorSettings(redis_url=redis_url, queue=queue, draft="127.0.0.1:1", max_jobs=4, **others)
        coordinator = asyncio.create_task(coordinate(settings.model_copy(update={"draft": names.target(port)})))
        async with AsyncClient(redis_url, queue) as client, many_jobs(client) as records:
            await wait_until(lambda: _has(old.num_calls >= 10 or coordinator.done()), "the old one works")
            assert not coordinator.done(), coordinator.exception()
            names.addresses.append(new.host)
            await wait_until(lambda: _has(new.num_calls >= 5), "the new one works, too")
            server.stop.set()
            await server.task
            names.addresses.remove(old.host)
        assert len(records) >= 4
        assert {(record.state, record.fields["attempt"]) for record in records} == {(JobState.SUCCEEDED, "1")}
        os.kill(os.getpid(), signal.SIGTERM)  # as the coordinator's own process would be told
        await coordinator


@asynccontextmanager
async def many_jobs(client: AsyncClient) -> AsyncIterator[list[JobRecord]]:
    """Keep four jobs running, and yield the records of the finished jobs."""
    records: list[JobRecord] = []
    is_over = asyncio.Event()
    prompt = (
        "On Sunday Mia has 27 shells. On Monday Tom gives her 11 shells. "
        "On Tuesday she uses 18 shells. On Wednesday she triples the shells. "
        "On Thursday she finds 16 shells. How many shells does Mia have at the end?"
    )

    async def work() -> None:
        while not is_over.is_set():
            job_id = await client.submit({"prompt": prompt, "params": {"n": 4, "seed": len(records)}})
            records.append(await client.wait(job_id, 60))

    async with asyncio.TaskGroup() as workers:
        for _ in range(4):
            workers.create_task(work())
        try:
            yield records
        finally:
            is_over.set()
