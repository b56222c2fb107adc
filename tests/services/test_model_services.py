"""The three model services over real gRPC: contract, health, deadlines, cancellation, status codes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Prompt, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.judging import JudgePrompt, Question
from gsi.algorithm.params import Params, SamplingParams
from gsi.algorithm.ports import LabelProbabilities, NoRoomError, Ports
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.local.embedded_redis import free_port
from gsi.model_info import ModelInfo
from gsi.rpc.clients import DraftClient, PrmClient, TargetClient
from gsi.rpc.server import serve
from gsi.runtime.settings import ServiceSettings
from gsi.v1 import candidates_pb2, draft_pb2_grpc, prm_pb2, prm_pb2_grpc, target_pb2, target_pb2_grpc
from services.draft import servicer as draft_servicer
from tests.conftest import wait_until
from tests.services.conftest import ROLES, client_of, load_shipped, serving
from tests.services.test_compatibility import DRAFT

PROBLEM = (
    "On Sunday Mia has 27 shells. On Monday Tom gives her 11 shells. "
    "On Tuesday she uses 18 shells. On Wednesday she triples the shells. "
    "On Thursday she finds 16 shells. How many shells does Mia have at the end?"
)
MESSAGES = (Message("user", PROBLEM),)
SAMPLING = SamplingParams(max_step_tokens=32)


async def batches(*given: Sequence[Any]) -> AsyncGenerator[Sequence[Any], None]:
    for batch in given:
        yield batch


async def status(address: str, service: str = "") -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True, timeout=5)
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


async def refusal(address: str, stub_kind: Any) -> str:
    """Return why a client that does not watch health is told to retry."""
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub_kind(channel).GetModelInfo(candidates_pb2.GetModelInfoRequest())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(raised.value.details())


class EndlessEngine:
    """Proposes one candidate and then works forever; ``is_working`` says whether a caller still waits."""

    def __init__(self, error: Exception | None = None, info: ModelInfo = DRAFT) -> None:
        self.info = info
        self.is_working = False
        self.death = asyncio.Event()
        self._error = error

    def close(self) -> None:
        pass

    async def wait_until_dead(self) -> str:
        await self.death.wait()
        return "it was killed"

    async def propose(
        self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
    ) -> AsyncIterator[Sequence[Candidate]]:
        if self._error is not None:
            raise self._error
        self.is_working = True
        try:
            yield [Candidate(0, (1,), "a step", -1.0, FinishReason.DELIMITER)]
            await asyncio.Event().wait()
        finally:
            self.is_working = False

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        self.is_working = True
        try:
            return await asyncio.Future()
        finally:
            self.is_working = False


async def already(engine: Any) -> Any:
    return engine


def serving_engine(engine: Any, **settings: Any) -> Any:
    return serving(draft_servicer.SERVICE, draft_servicer.add_to_server, partial(already, engine), **settings)


@pytest.mark.parametrize("role", ROLES)
async def test_a_service_is_not_serving_until_its_model_is_loaded(role: str) -> None:
    """Health says so, and a call that comes too early may be retried, with or without a watch on health."""
    servicer, client_kind = ROLES[role]
    may_load = asyncio.Event()

    async def load() -> Any:
        await may_load.wait()
        return await load_shipped(role)

    async with serving(servicer.SERVICE, servicer.add_to_server, load) as server:
        client: Any = client_kind(server.address, 10.0)
        assert [await status(server.address), await status(server.address, servicer.SERVICE)] == ["NOT_SERVING"] * 2
        with pytest.raises(RetryableError, match=f"{role}: UNAVAILABLE: .*it is loading its model") as raised:
            await client.model_info()
        assert not raised.value.has_reached
        assert await refusal(server.address, client.stub_kind) == "the model is loading"
        may_load.set()
        await wait_until(client.is_serving, "the model is loaded")
        assert (await client.model_info()).engine == "transformers"
        await client.close()


async def test_a_draining_service_is_not_serving_and_finishes_its_calls() -> None:
    """After SIGTERM clients send no new calls, a call that still comes is refused, and a call in flight may finish."""
    engine = EndlessEngine()
    async with serving_engine(engine, grace_seconds=1.5) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 10.0)
        stream = client.propose((1,), 1, SAMPLING, 0)
        await anext(stream)
        server.stop.set()
        await wait_until(lambda: _is(server.address, "NOT_SERVING"), "draining")
        with pytest.raises(RetryableError, match=r"about to stop|shutting down"):  # before its health reached us
            await anext(client.propose((1,), 1, SAMPLING, 0))
        assert await refusal(server.address, DraftClient.stub_kind) == "the service is shutting down"
        still_works = bool(engine.is_working)
        assert still_works
        with pytest.raises(RetryableError):
            await anext(stream)
        await wait_until(lambda: _has_stopped(engine), "the grace period ends")
        await client.close()


async def _is(address: str, expected: str) -> bool:
    return await status(address) == expected


async def test_reflection_lists_the_services_where_it_is_asked_for() -> None:
    """Tools can call a service without its protos; without the setting they learn nothing."""
    async with serving_engine(EndlessEngine(), reflection=True) as server:
        assert {"gsi.v1.DraftService", "grpc.health.v1.Health"} <= await list_services(server.address)
    async with serving_engine(EndlessEngine()) as server:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await list_services(server.address)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def list_services(address: str) -> set[str]:
    """Return what reflection lists."""
    async with grpc.aio.insecure_channel(address) as channel:
        untyped: Any = channel  # the stubs of this package know the synchronous channel only
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        async for answer in call:
            return {service.name for service in answer.list_services_response.service}
    raise AssertionError("reflection says nothing")


async def test_a_trajectory_over_grpc_is_the_one_that_the_engines_write(
    draft: DraftClient, target: TargetClient, prm: PrmClient
) -> None:
    """Nothing is lost on the wire: every token and every number, to the last bit."""
    engines: dict[str, Any] = {role: await load_shipped(role) for role in ROLES}
    direct = Ports(engines["draft"], engines["target"], engines["prm"])
    prompt = Prompt(MESSAGES, await draft.render(MESSAGES))
    params = Params(n=4, sampling=SAMPLING)
    over_grpc, _ = await generate(Trajectory(prompt), params, Ports(draft, target, prm), 3, keep=_keep, max_length=511)
    in_process, _ = await generate(Trajectory(prompt), params, direct, 3, keep=_keep, max_length=511)
    assert over_grpc == in_process
    assert len(over_grpc.steps) >= 4
    for engine in engines.values():
        engine.close()


async def _keep(made: object) -> None:
    """These trajectories need no checkpoint."""


async def test_greedy_crosses_the_wire(draft: DraftClient, target: TargetClient) -> None:
    """Temperature 0 is a value, not a missing field, and scoring at temperature 0 is refused by name."""
    greedy = SamplingParams(temperature=0.0, max_step_tokens=32)
    prefix = await draft.render(MESSAGES)
    once, again = [[c async for batch in draft.propose(prefix, 1, greedy, seed) for c in batch] for seed in (1, 2)]
    assert once == again
    assert once[0].log_likelihood == 0.0
    with pytest.raises(InvalidRequestError, match=r"sampling\.temperature is 0"):
        await anext(target.score(prefix, greedy, batches(once)))


@pytest.mark.parametrize("role", ROLES)
async def test_a_model_s_description_loses_nothing_on_the_wire(role: str) -> None:
    """Unknown fields stay unknown, and values other than the defaults arrive."""
    _, client_kind = ROLES[role]
    engine = EndlessEngine()
    shipped = await load_shipped(role)
    shipped.close()
    for info in (
        shipped.info,
        replace(shipped.info, temperature=0.7, has_bounded_rewards=False, num_speculative_tokens=4),
        replace(shipped.info, num_parameters=None),
    ):
        engine.info = info
        servicer, _ = ROLES[role]
        async with serving(servicer.SERVICE, servicer.add_to_server, partial(already, engine)) as server:
            client: Any = client_kind(server.address, 10.0)
            await wait_until(client.is_serving, "the model is loaded")
            assert await client.model_info() == info
            await client.close()


async def test_candidates_are_streamed_as_they_finish(draft: DraftClient) -> None:
    """A short candidate reaches the coordinator before the longest is written."""
    prefix = await draft.render(MESSAGES)
    answers = [batch async for batch in draft.propose(prefix, 32, SamplingParams(temperature=2.0), 1)]
    assert len(answers) > 1
    assert sorted(candidate.index for batch in answers for candidate in batch) == list(range(32))


async def test_scores_answer_while_candidates_still_come(target: TargetClient, draft: DraftClient) -> None:
    """Score is a conversation: the first answer comes before the last candidate."""
    prefix = await draft.render(MESSAGES)
    candidates = [c async for batch in draft.propose(prefix, 2, SAMPLING, 1) for c in batch]
    may_go_on = asyncio.Event()

    async def slowly() -> AsyncGenerator[Sequence[Candidate], None]:
        yield candidates[:1]
        await may_go_on.wait()
        yield candidates[1:]

    answers = target.score(prefix, SAMPLING, slowly())
    assert [score.index for score in await anext(answers)] == [candidates[0].index]
    may_go_on.set()
    assert [score.index for score in await anext(answers)] == [candidates[1].index]
    await answers.aclose()


async def test_a_judgement_over_grpc_is_the_one_that_the_engine_makes(draft: DraftClient, target: TargetClient) -> None:
    """To the last bit, from both language models; and each says of itself that it can judge."""
    prefix = (*await draft.render(MESSAGES), 10, 11)
    for role, client in (("draft", draft), ("target", target)):
        engine: Any = await load_shipped(role)
        for prompt in JudgePrompt:
            expected = await engine.judge(prefix, prompt.question)
            assert await client.judge(prefix, prompt.question) == expected
            assert len(expected.values) == len(prompt.values)
        assert (await client.model_info()).can_judge
        engine.close()


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question("Good?", "", ()), "labels has 0 labels; allowed: 1 to 100"),
        (Question("Good?", "", tuple(map(str, range(101)))), "labels has 101 labels; allowed: 1 to 100"),
        (
            Question("Good?", "", ("1", "0", "1")),
            "labels has 3 labels, of which two are equal; allowed: different ones",
        ),
        (Question("?" * 10_001, "", ("1",)), "question has 10001 characters; allowed: at most 10000"),
        (Question("", "?" * 10_001, ("1",)), "opening has 10001 characters; allowed: at most 10000"),
        (Question("Good?", "", ("1" * 10_001,)), "labels has 10001 characters; allowed: at most 10000"),
        (Question("Good?", "", ("Yes",)), "labels: 'Yes' is 3 tokens of this model; allowed: one token"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_refused(
    target: TargetClient, question: Question, message: str
) -> None:
    """The error names the field, what it was, and what is allowed."""
    with pytest.raises(InvalidRequestError) as refused:
        await target.judge((1, 2), question)
    assert str(refused.value) == message


async def test_a_question_without_room_names_the_room_across_the_wire(target: TargetClient) -> None:
    """The algorithm writes shorter candidates then, or ends the answer."""
    with pytest.raises(NoRoomError, match="prefix has 510 tokens and the judge's question") as refused:
        await target.judge((1,) * 510, JudgePrompt.SCORE.question)
    found = await target.judge((1,) * refused.value.room, JudgePrompt.SCORE.question)
    assert found.num_tokens == 512 - refused.value.room


async def test_cancelling_a_judgement_stops_the_engine() -> None:
    """And a deadline does."""
    engine = EndlessEngine()
    async with serving_engine(engine, grace_seconds=0) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 60.0)
        call = asyncio.create_task(client.judge((1,), JudgePrompt.SCORE.question))
        await wait_until(lambda: _works(engine), "the engine works")
        call.cancel()
        await wait_until(lambda: _has_stopped(engine), "the engine stops")
        await client.close()
        hasty = DraftClient(server.address, timeout_seconds=0.5)
        with pytest.raises(RetryableError, match="draft: DEADLINE_EXCEEDED") as raised:
            await hasty.judge((1,), JudgePrompt.SCORE.question)
        assert raised.value.is_deadline
        await wait_until(lambda: _has_stopped(engine), "the engine stops")
        await hasty.close()


async def _works(engine: EndlessEngine) -> bool:
    return engine.is_working


async def test_a_service_without_the_call_may_be_asked_again() -> None:
    """A replica of an older release lacks it, and another replica may have it."""

    def add(_engine: Any, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(draft_servicer.SERVICE, {})])

    async with serving(draft_servicer.SERVICE, add, partial(already, EndlessEngine())) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 10.0)
        with pytest.raises(RetryableError, match="draft: UNIMPLEMENTED"):
            await client.judge((1,), JudgePrompt.SCORE.question)
        await client.close()


async def test_cancelling_a_call_stops_the_engine() -> None:
    """A stream that nobody reads any more costs nothing."""
    engine = EndlessEngine()
    async with serving_engine(engine, grace_seconds=0) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 60.0)
        async with aclosing(client.propose((1,), 1, SAMPLING, 0)) as stream:
            await anext(stream)
            assert engine.is_working
        await wait_until(lambda: _has_stopped(engine), "the engine stops")
        await client.close()


async def test_a_deadline_stops_the_engine() -> None:
    """The caller gets an error that may be retried and says that it was a deadline."""
    engine = EndlessEngine()
    async with serving_engine(engine, grace_seconds=0) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, timeout_seconds=0.5)
        stream = client.propose((1,), 1, SAMPLING, 0)
        await anext(stream)
        assert engine.is_working
        with pytest.raises(RetryableError, match="draft: DEADLINE_EXCEEDED") as raised:
            await anext(stream)
        assert raised.value.is_deadline
        await wait_until(lambda: _has_stopped(engine), "the engine stops")
        await client.close()


async def _has_stopped(engine: EndlessEngine) -> bool:
    return not engine.is_working


async def test_a_full_service_says_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED carries RetryInfo; calls in flight are not disturbed."""
    engine = EndlessEngine()
    async with serving_engine(engine, max_concurrent_rpcs=1, grace_seconds=0) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 60.0)
        async with aclosing(client.propose((1,), 1, SAMPLING, 0)) as stream:
            await anext(stream)
            with pytest.raises(RetryableError, match="draft: RESOURCE_EXHAUSTED: 1 requests") as raised:
                await anext(client.propose((1,), 1, SAMPLING, 0))
            assert raised.value.retry_after_seconds == 0.5
            assert engine.is_working
        await client.close()


@pytest.mark.parametrize(
    ("raised", "received", "message"),
    [
        (InvalidRequestError("n is 0; allowed: 1 to 9"), InvalidRequestError, "n is 0; allowed: 1 to 9"),
        (MisconfiguredError("wrong model"), MisconfiguredError, "draft: wrong model"),
        (RetryableError("loading"), RetryableError, "draft: UNAVAILABLE: loading"),
        (
            ZeroDivisionError("secret"),
            InternalError,
            "draft: INTERNAL: internal error; the service's log has it",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_an_error_crosses_the_wire_as_itself(raised: Exception, received: type[Exception], message: str) -> None:
    """The party at fault survives; the text of an unexpected exception does not leave the process."""
    async with serving_engine(EndlessEngine(raised)) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = DraftClient(server.address, 10.0)
        with pytest.raises(received) as caught:
            await anext(client.propose((1,), 1, SAMPLING, 0))
        assert str(caught.value) == message
        await client.close()


async def test_a_score_call_that_is_refused_leaves_no_task_that_waits() -> None:
    """Its candidates have not come yet, and gRPC's own task would wait for them for ever."""
    engine = EndlessEngine()

    async def to_come() -> AsyncGenerator[Sequence[Candidate], None]:
        await asyncio.Event().wait()
        yield []

    servicer, _ = ROLES["target"]
    load = partial(already, engine)
    async with serving(
        servicer.SERVICE, servicer.add_to_server, load, max_concurrent_rpcs=1, grace_seconds=0
    ) as server:
        await wait_until(lambda: _is(server.address, "SERVING"), "serving")
        client = TargetClient(server.address, 60.0)
        async with aclosing(client.propose((1,), 1, SAMPLING, 0)) as stream:
            await anext(stream)
            with pytest.raises(RetryableError, match="target: RESOURCE_EXHAUSTED"):
                await anext(client.score((1,), SAMPLING, to_come()))
            running = {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}
            assert not running & {"_send", "_consume_request_iterator"}  # ours, and gRPC's own
        await client.close()


async def test_requests_that_cannot_be_made_are_an_error(target: TargetClient) -> None:
    """The call does not wait for them until its deadline."""

    def make() -> Sequence[Candidate]:
        raise ZeroDivisionError("no candidates")

    async def broken() -> AsyncGenerator[Sequence[Candidate], None]:
        yield make()

    with pytest.raises(ZeroDivisionError, match="no candidates"):
        await anext(target.score((1, 2, 3), SAMPLING, broken()))


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    """The caller learns it at once, not at the deadline."""
    client = DraftClient("127.0.0.1:1", 60.0)
    with pytest.raises(RetryableError, match="draft: UNAVAILABLE"):
        await client.model_info()
    assert not await client.is_serving()
    await client.close()


SAMPLING_PROTO = candidates_pb2.SamplingParams(
    temperature=0.7, top_p=1, max_step_tokens=8, likelihood=candidates_pb2.LIKELIHOOD_SAMPLING
)


@pytest.mark.parametrize(
    ("field", "request_fields"),
    [
        ("n is 0; allowed: 1 to 1024", {"n": 0}),
        ("n is 10000; allowed: 1 to 1024", {"n": 10_000}),
        (
            "sampling.temperature is -1.0; allowed: 0 for greedy, or 0.01 to 100.0",
            {"sampling": candidates_pb2.SamplingParams(temperature=-1)},
        ),
        ("sampling.top_p is 0.0; allowed: above 0, at most 1", {"sampling": candidates_pb2.SamplingParams()}),
        ("prefix has 0 tokens; allowed: 1 to 511", {"prefix_token_ids": []}),
        ("prefix has 600 tokens; allowed: 1 to 511", {"prefix_token_ids": [1] * 600}),
    ],
)
async def test_a_bad_proposal_is_an_invalid_argument(field: str, request_fields: dict[str, Any]) -> None:
    """The message names the field and what is allowed."""
    fields = {"prefix_token_ids": [1], "n": 1, "sampling": SAMPLING_PROTO, **request_fields}
    async with client_of("draft") as client, grpc.aio.insecure_channel(client.address) as channel:
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Propose(candidates_pb2.ProposeRequest(**fields)).read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(raised.value.details())


async def test_a_score_stream_begins_with_its_header(target: TargetClient, prm: PrmClient) -> None:
    """Candidates without a prefix mean nothing."""
    target_message = target_pb2.TargetScoreRequest(candidates=target_pb2.TargetScoreCandidates())
    prm_message = prm_pb2.PrmScoreRequest(candidates=prm_pb2.PrmScoreCandidates())
    calls: list[tuple[str, Any, Any]] = [
        (target.address, target_pb2_grpc.TargetServiceStub, target_message),
        (prm.address, prm_pb2_grpc.PrmServiceStub, prm_message),
    ]
    for address, stub_kind, message in calls:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="header") as raised:
                await stub_kind(channel).Score(iter([message])).read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_over_4_megabytes_passes(prm: PrmClient, draft: DraftClient) -> None:
    """gRPC's default limit does not apply; the engine's own limit answers."""
    with pytest.raises(InvalidRequestError, match="prefix has"):
        await anext(draft.propose([1] * 5_000_000, 1, SAMPLING, 0))


async def test_a_port_that_is_taken_is_an_error(draft: DraftClient) -> None:
    """Two services on one address are a mistake, and the second one says so."""
    servicer, _ = ROLES["draft"]
    settings = ServiceSettings(listen=draft.address, model="shipped")
    with pytest.raises(OSError, match=f"cannot listen on {draft.address}"):
        await serve(servicer.SERVICE, settings, lambda: load_shipped("draft"), servicer.add_to_server, asyncio.Event())


async def test_a_service_whose_engine_dies_stops_serving_and_ends_with_an_error() -> None:
    """Its process exits non-zero, so that a supervisor starts it again; callers retry meanwhile."""
    engine = EndlessEngine()
    stop, address = asyncio.Event(), f"127.0.0.1:{free_port()}"
    settings = ServiceSettings(listen=address, model="shipped")
    load, add = partial(already, engine), draft_servicer.add_to_server
    service = asyncio.create_task(serve(draft_servicer.SERVICE, settings, load, add, stop))
    await wait_until(lambda: _is(address, "SERVING"), "serving")
    client = DraftClient(address, 30.0)
    call = asyncio.create_task(_all(client.propose([1], 1, SAMPLING, 0)))
    await wait_until(lambda: _is_working(engine), "the call is in flight")
    engine.death.set()
    await wait_until(lambda: _is(address, "NOT_SERVING"), "the death is seen")
    with pytest.raises(RetryableError):
        await call
    with pytest.raises(InternalError, match="it was killed"):
        await service
    await client.close()


async def _is_working(engine: EndlessEngine) -> bool:
    return engine.is_working


async def _all(batches: AsyncGenerator[Sequence[Any], None]) -> list[Any]:
    return [item async for batch in batches for item in batch]
