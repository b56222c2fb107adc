"""A job's calls go to the replica that has its prefix: real servers, real gRPC, engines that answer with their host."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from structlog.contextvars import bound_contextvars

from gsi.algorithm.candidates import Candidate, FinishReason, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import ScoreBatches, TokenBatches
from gsi.client.sdk import AsyncClient
from gsi.errors import InvalidRequestError, RetryableError
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import free_port
from gsi.rpc import call_context, connection, replicas
from gsi.rpc.clients import DraftClient, TargetClient
from gsi.rpc.rendezvous import Choice, order_replicas
from services.coordinator.__main__ import coordinate
from services.coordinator.settings import CoordinatorSettings
from services.draft import servicer as draft_servicer
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.services.conftest import Serving, client_of, load_shipped, serving
from tests.services.test_compatibility import DRAFT, TARGET
from tests.services.test_replicas import HOSTS, Replica, SharedEngine, answer, serving_replica

SAMPLING = SamplingParams(max_step_tokens=32)
FEW: dict[str, Any] = {"max_concurrent_rpcs": 1, "max_peer_share": 1.0}
JOBS = [f"job-{number}" for number in range(24)]


class Fleet:
    """Three drafts on one port of three hosts, and a client that was told their addresses."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.replicas = {host: Replica(host) for host in HOSTS}
        self.servers: dict[str, Serving] = {}
        self.choices: list[Choice] = []

    def addresses(self, *hosts: str) -> str:
        return ",".join(f"{host}:{self.port}" for host in hosts)

    def home_of(self, job: str, hosts: Sequence[str] = HOSTS) -> str:
        """Return the host of a job's home."""
        addresses = tuple(f"{host}:{self.port}" for host in hosts)
        return order_replicas(job, addresses)[0].partition(":")[0]


@asynccontextmanager
async def fleet(**settings: Any) -> AsyncIterator[Fleet]:
    started = Fleet(free_port(HOSTS[0]))
    async with AsyncExitStack() as stack:
        for host, replica in started.replicas.items():
            serve = serving_replica(replica, started.port, **settings)
            started.servers[host] = await stack.enter_async_context(serve)
        yield started


@asynccontextmanager
async def calling(
    fleet: Fleet, address: str, num_ready: int = 3, timeout_seconds: float = 10.0, **options: Any
) -> AsyncIterator[DraftClient]:
    """Yield a client that is connected to so many replicas."""
    client = DraftClient(address, timeout_seconds, note_choice=fleet.choices.append, **options)
    try:
        await until_ready(client, num_ready)
        yield client
    finally:
        await client.close()


async def until_ready(client: DraftClient, num_ready: int) -> None:
    async def is_ready() -> bool:
        return await client.is_serving() and len(client.replicas.ready) == num_ready

    await wait_until(is_ready, f"{num_ready} replicas are ready")


async def ask(client: DraftClient, job: str) -> str:
    """Return which replica answers a call of a job, which stays in its place."""
    with bound_contextvars(job=job):
        return await answer(client)


async def ask_all(client: DraftClient, jobs: Sequence[str] = JOBS) -> list[str]:
    """Return which replicas answer a call of each job, one job after the other has ended."""
    hosts = []
    for job in jobs:
        hosts.append(await ask(client, job))
        client.replicas.end(job)
    return hosts


async def test_all_calls_of_a_job_go_to_its_home() -> None:
    """Job after job, three calls each: every replica has jobs, and no job has two replicas."""
    async with fleet() as three, calling(three, three.addresses(*HOSTS)) as client:
        for job in JOBS:
            assert {await ask(client, job) for _ in range(3)} == {three.home_of(job)}
            client.replicas.end(job)
        assert set(three.choices) == {Choice.HOME}
        assert len(three.choices) == 3 * len(JOBS)
        assert all(replica.num_calls for replica in three.replicas.values())


async def test_calls_without_a_job_take_turns() -> None:
    """So does every call while affinity is off."""
    async with fleet() as three:
        async with calling(three, three.addresses(*HOSTS)) as client:
            assert Counter([await answer(client) for _ in range(6)]) == dict.fromkeys(HOSTS, 2)
        assert not three.choices
        client = DraftClient(three.addresses(*HOSTS), 10.0)
        await until_ready(client, 3)
        assert Counter([await ask(client, "job") for _ in range(6)]) == dict.fromkeys(HOSTS, 2)
        await client.close()


@pytest.mark.parametrize("num_jobs", [1, 30])
async def test_a_replica_does_not_fill_up_while_others_have_nothing_to_do(num_jobs: int) -> None:
    """Thirty calls at once, of one job or of jobs with one first replica: none has more than 1.25 times the mean."""
    async with fleet() as three, calling(three, three.addresses(*HOSTS)) as client:
        for replica in three.replicas.values():
            replica.seconds = 0.5
        first = HOSTS[0]
        skewed = [job for job in map(str, range(1000)) if three.home_of(job) == first][:num_jobs]
        hosts = Counter(await asyncio.gather(*(ask(client, skewed[index % num_jobs]) for index in range(30))))
        assert hosts[first] == max(hosts.values()) <= 13  # 1.25 x 30 / 3, rounded up
        assert set(hosts) == set(HOSTS)
        assert set(three.choices) == {Choice.HOME, Choice.LOAD}


async def test_a_job_stays_where_it_was_placed() -> None:
    """A job that was placed away from its first replica has its prefix there, and is at home from then on."""
    async with fleet() as three, calling(three, three.addresses(*HOSTS)) as client:
        one, other = [job for job in JOBS if three.home_of(job) == HOSTS[0]][:2]
        assert await ask(client, one) == HOSTS[0]
        hosts = {await ask(client, other) for _ in range(5)}
        assert len(hosts) == 1
        assert hosts != {HOSTS[0]}
        client.replicas.end(one)
        assert {await ask(client, other) for _ in range(5)} == hosts
        assert three.choices == [Choice.HOME, Choice.LOAD, *[Choice.HOME] * 9]


async def test_a_lost_replica_s_jobs_go_to_the_next_one_and_stay() -> None:
    """A call in flight fails and may be tried again; later calls go to another replica, also when the first is back."""
    async with fleet(grace_seconds=0) as three, calling(three, three.addresses(*HOSTS)) as client:
        home = three.home_of("job")
        three.replicas[home].seconds = 60.0
        call = asyncio.create_task(ask(client, "job"))
        await wait_until(lambda: _has(three.replicas[home].num_calls == 1), "the call has begun")
        three.servers[home].stop.set()
        with pytest.raises(RetryableError) as raised:
            await call
        assert raised.value.is_away
        others = [host for host in HOSTS if host != home]
        assert {await ask(client, "job") for _ in range(5)} == {three.home_of("job", others)}
        assert three.choices == [Choice.HOME, Choice.LOST, *[Choice.HOME] * 4]
        await three.servers[home].task
        three.replicas[home].seconds = 0.0
        async with serving_replica(three.replicas[home], three.port):
            await until_ready(client, 3)
            assert await ask(client, "job") == three.home_of("job", others)
            client.replicas.end("job")
            await wait_until(lambda: _is_home(client, home), "a new run of the job is at its first replica")


async def _is_home(client: DraftClient, home: str) -> bool:
    return await ask_all(client, ["job"]) == [home]


async def _has(value: bool) -> bool:
    return value


async def test_a_full_replica_s_call_is_made_at_the_next_one_at_once() -> None:
    """The caller does not learn that its home was full, and the home is not asked again for a while."""
    async with fleet(**FEW) as three, AsyncExitStack() as stack, calling(three, three.addresses(*HOSTS)) as client:
        home = three.home_of("job")
        stranger = DraftClient(f"{home}:{three.port}", 10.0)
        stack.push_async_callback(stranger.close)
        three.replicas[home].seconds = 2.0
        filling = asyncio.create_task(answer(stranger))
        await wait_until(lambda: _has(three.replicas[home].num_calls == 1), "home is full")
        answers = [await ask(client, "job") for _ in range(3)]
        assert home not in answers
        assert len(set(answers)) == 1
        assert three.choices == [Choice.LOST, Choice.HOME, Choice.HOME]
        assert await filling == home


async def test_when_every_replica_is_full_the_caller_is_told_when_to_come_back() -> None:
    """Then the coordinator slows down, as it does with a single replica."""
    async with fleet(**FEW) as three, calling(three, three.addresses(*HOSTS)) as client:
        for replica in three.replicas.values():
            replica.seconds = 1.0
        calls = [asyncio.create_task(ask(client, job)) for job in JOBS[:3]]
        await wait_until(lambda: _has(all(each.num_calls for each in three.replicas.values())), "all are full")
        with pytest.raises(RetryableError) as raised:
            await ask(client, "one more")
        assert raised.value.retry_after_seconds is not None
        assert set(await asyncio.gather(*calls)) == set(HOSTS)


async def test_a_deadline_sends_the_job_elsewhere_and_a_wrong_request_does_not() -> None:
    """A replica may hang and say that it serves; a request that is refused for its contents would be refused by all."""
    async with fleet() as three, calling(three, three.addresses(*HOSTS), timeout_seconds=0.5) as client:
        home = three.home_of("job")
        with bound_contextvars(job="job"), pytest.raises(InvalidRequestError):
            async for _ in client.propose((1,), 0, SAMPLING, 0):
                pass
        assert await ask(client, "job") == home
        three.replicas[home].seconds = 60.0
        with pytest.raises(RetryableError) as raised:
            await ask(client, "job")
        assert raised.value.is_deadline
        assert await ask(client, "job") != home
        assert three.choices == [Choice.HOME, Choice.HOME, Choice.HOME, Choice.LOST]


async def test_a_replica_with_another_model_is_passed_over() -> None:
    """Its answers would not be used, so the job's next replica is asked in its place."""
    async with fleet() as three, AsyncExitStack() as stack:
        home = three.home_of("job")
        three.servers[home].stop.set()
        await three.servers[home].task
        stranger = Replica(home, replace(DRAFT, model="foreign"))
        await stack.enter_async_context(serving_replica(stranger, three.port))
        client = await stack.enter_async_context(calling(three, three.addresses(*HOSTS)))
        client.model = DRAFT
        assert await ask(client, "job") == three.home_of("job", [host for host in HOSTS if host != home])
        assert three.choices == [Choice.LOST]


async def judged_by(client: DraftClient, job: str) -> str:
    """Return which replica judges a step of a job."""
    with bound_contextvars(job=job):
        return HOSTS[(await client.judge((1,), Question("", "", ("1",)))).num_tokens]


async def test_a_step_is_judged_where_its_job_is_at_home() -> None:
    """That replica has the prefix."""
    async with fleet() as three, calling(three, three.addresses(*HOSTS)) as client:
        for job in JOBS:
            assert [await ask(client, job), await judged_by(client, job)] == [three.home_of(job)] * 2
            client.replicas.end(job)


async def test_a_replica_that_lacks_the_call_is_passed_over_at_once() -> None:
    """While replicas of two releases serve, a step is judged by one of the newer."""
    three = Fleet(free_port(HOSTS[0]))
    order = [address.partition(":")[0] for address in order_replicas("job", tuple(three.addresses(*HOSTS).split(",")))]

    def serve_no_call(_engine: Any, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(draft_servicer.SERVICE, {})])

    async def load() -> Any:
        return three.replicas[order[0]]

    async with AsyncExitStack() as stack:
        older = serving(draft_servicer.SERVICE, serve_no_call, load, three.addresses(order[0]))
        await stack.enter_async_context(older)
        for host in order[1:]:
            await stack.enter_async_context(serving_replica(three.replicas[host], three.port))
        client = await stack.enter_async_context(calling(three, three.addresses(*HOSTS)))
        assert await judged_by(client, "job") == order[1]
        assert three.choices == [Choice.LOST]


async def test_replicas_are_found_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new address gets its jobs within the time between two look-ups, an old one loses them; one has no choice."""
    monkeypatch.setattr(replicas, "RESOLVE_SECONDS", 0.05)
    monkeypatch.setattr(connection, "RESOLVE_SECONDS", 0.05)
    hosts = [HOSTS[0]]
    async with fleet() as three:

        async def resolve(address: str) -> Sequence[str]:
            return [f"ipv4:{host}:{address.rpartition(':')[2]}" for host in hosts]

        monkeypatch.setattr(replicas, "resolve", resolve)
        async with calling(three, f"{HOSTS[0]}:{three.port}", num_ready=0) as client:
            assert await ask_all(client) == [HOSTS[0]] * len(JOBS)
            assert not three.choices
            hosts.extend(HOSTS[1:])
            await until_ready(client, 3)
            assert set(await ask_all(client)) == set(HOSTS)
            hosts.remove(HOSTS[0])
            await until_ready(client, 2)
            assert set(await ask_all(client)) == set(HOSTS[1:])
            hosts.remove(HOSTS[2])
            await until_ready(client, 0)
            assert Choice.LOAD not in three.choices
            assert three.choices.count(Choice.HOME) > len(JOBS)  # a new replica may just connect


async def test_a_name_s_addresses_are_those_of_ipv4_if_it_has_any() -> None:
    """With both kinds, each replica would count twice. An unknown name has none."""
    assert await replicas.resolve("localhost:50051") == ["ipv4:127.0.0.1:50051"]
    assert await replicas.resolve("[::1]:50051") == ["ipv6:[::1]:50051"]
    assert await replicas.resolve("no-such-host.invalid:50051") == []


async def test_tls_verifies_the_name_whose_replica_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica's certificate names the service's host, not the replica's address."""
    authority, port = Authority(tmp_path), free_port(HOSTS[0])
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    own = authority.issue("draft", hosts=hosts).settings()
    files = authority.issue("coordinator").files()

    async def resolve(address: str) -> Sequence[str]:
        return [f"ipv4:{host}:{port}" for host in HOSTS]

    monkeypatch.setattr(replicas, "resolve", resolve)
    async with AsyncExitStack() as stack:
        for host in ("127.0.0.1", *HOSTS):
            await stack.enter_async_context(serving_replica(Replica(host), port, **own))
        three = Fleet(port)
        client = await stack.enter_async_context(calling(three, f"localhost:{port}", files=files))
        assert set(await ask_all(client)) == set(HOSTS)
        assert set(three.choices) == {Choice.HOME}
        wrong = DraftClient(f"127.0.0.1:{port}", 10.0, files, note_choice=three.choices.append)
        stack.push_async_callback(wrong.close)
        wrong.replicas.look_up()
        for _ in range(20):
            assert not wrong.replicas.ready, "no replica's certificate names 127.0.0.1"
            await asyncio.sleep(0.02)


class Scorer(Replica):
    """A target that scores each candidate with its own place among the hosts."""

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        self.num_calls += 1
        async for batch in candidates:
            await asyncio.sleep(self.seconds)
            yield [Score(candidate.index, -float(HOSTS.index(self.host))) for candidate in batch]


async def test_a_full_replica_s_stream_of_candidates_is_scored_by_the_next_one() -> None:
    """Candidates are sent when a replica has admitted the call, so none is lost with a refusal."""
    port = free_port(HOSTS[0])
    scorers = {host: Scorer(host, TARGET) for host in HOSTS}
    async with AsyncExitStack() as stack:
        for scorer in scorers.values():
            serve = serving_replica(scorer, port, "target", **FEW)
            await stack.enter_async_context(serve)
        choices: list[Choice] = []
        client = TargetClient(",".join(f"{host}:{port}" for host in HOSTS), 10.0, note_choice=choices.append)
        stack.push_async_callback(client.close)
        await wait_until(lambda: _has(len(client.replicas.ready) == len(HOSTS)), "all are ready")
        order = [address.partition(":")[0] for address in order_replicas("job", tuple(client.replicas.ready))]
        scorers[order[0]].seconds = 1.0
        stranger = TargetClient(f"{order[0]}:{port}", 10.0)
        stack.push_async_callback(stranger.close)
        filling = asyncio.create_task(score(stranger))
        await wait_until(lambda: _has(scorers[order[0]].num_calls == 1), "home is full")
        assert await score(client) == -float(HOSTS.index(order[1]))
        assert choices == [Choice.LOST]
        assert await filling == -float(HOSTS.index(order[0]))


async def score(client: TargetClient) -> float:
    """Return the score of one candidate of a job."""

    async def candidates() -> TokenBatches:
        yield [Candidate(0, (1,), "a", -1.0, FinishReason.EOS)]

    with bound_contextvars(job="job"):
        ((value,),) = [[each.value for each in batch] async for batch in client.score((1,), SAMPLING, candidates())]
    return value


class Noting(SharedEngine):
    """A replica of the shipped draft that notes whose calls it gets."""

    def __init__(self, host: str, engine: Any) -> None:
        super().__init__(host, engine)
        self.jobs: Counter[str] = Counter()

    def propose(
        self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
    ) -> AsyncIterator[Sequence[Candidate]]:
        self.jobs[call_context.job()] += 1
        return super().propose(prefix, n, sampling, seed)


@pytest.mark.parametrize("affinity", [False, True])
async def test_a_coordinator_keeps_each_job_on_one_replica(redis_url: str, queue: str, *, affinity: bool) -> None:
    """Six jobs on two drafts: each draft has its share, and without affinity each job's steps are on both."""
    port, engine = free_port(HOSTS[0]), await load_shipped("draft")
    before = choices_at_home()
    two = [Noting(host, engine) for host in HOSTS[:2]]
    async with AsyncExitStack() as stack:
        stack.callback(engine.close)
        for replica in two:
            await stack.enter_async_context(serving_replica(replica, port))
        others = {role: (await stack.enter_async_context(client_of(role))).address for role in ("target", "prm")}
        draft = ",".join(f"{replica.host}:{port}" for replica in two)
        settings = CoordinatorSettings(
            redis_url=redis_url, queue=queue, draft=draft, max_jobs=6, affinity=affinity, **others
        )
        coordinator = asyncio.create_task(coordinate(settings))
        async with AsyncClient(redis_url, queue) as client:
            problems = held_out_problems(6)
            payloads = [{"prompt": each["prompt"], "params": {"n": 4, "seed": 1}} for each in problems]
            ids = [await client.submit(payload) for payload in payloads]
            records = [await client.wait(job_id, 60) for job_id in ids]
        os.kill(os.getpid(), signal.SIGTERM)  # as the coordinator's own process would be told
        await coordinator
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    homes = [[replica.host for replica in two if job_id in replica.jobs] for job_id in ids]
    assert min(replica.jobs.total() for replica in two) > 0
    at_home = choices_at_home() - before
    if affinity:
        assert at_home > 2 * len(ids)
        assert all(len(home) == 1 for home in homes)
        assert max(len(replica.jobs) for replica in two) <= 4  # 1.25 x 6 / 2, rounded up
    else:
        assert at_home == 0
        assert any(len(home) == 2 for home in homes)


def choices_at_home() -> float:
    """Return how many calls of jobs went to their homes among the drafts, by the coordinator's metrics."""
    value = REGISTRY.get_sample_value("gsi_replica_choices_total", {"role": "draft", "choice": "home"})
    assert value is not None
    return value
