"""What one caller can cost the others: work is refused before it begins, and calls end, whatever their clients do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from gsi.algorithm.candidates import Message
from gsi.errors import InvalidRequestError, RetryableError
from gsi.limits import MAX_REQUEST_BYTES, MAX_REQUEST_CANDIDATES, MAX_TEXT_CHARACTERS
from gsi.rpc import messages
from gsi.rpc.admission import Admission, address_of
from gsi.rpc.clients import DraftClient, TargetClient
from gsi.v1 import candidates_pb2, draft_pb2, draft_pb2_grpc, prm_pb2, prm_pb2_grpc, target_pb2, target_pb2_grpc
from tests.conftest import wait_until
from tests.services.conftest import client_of
from tests.services.test_model_services import SAMPLING, SAMPLING_PROTO, EndlessEngine, serving_engine
from tests.services.test_service_metrics import shows

METHODS = {
    "draft": ("DraftService", ("GetModelInfo", "RenderPrompt", "Propose")),
    "target": ("TargetService", ("GetModelInfo", "Propose", "Score")),
    "prm": ("PrmService", ("GetModelInfo", "Score")),
}
NO_MESSAGE = b"\xff\xff\xff"


async def failure_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return status code and details of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await (call.read() if hasattr(call, "read") else call)
    return raised.value.code(), str(raised.value.details())


def raw_call(channel: grpc.aio.Channel, service: str, method: str, *sent: bytes) -> Any:
    """Call a method with bytes, as a client of any make could."""
    call: Any = channel.stream_stream(f"/gsi.v1.{service}/{method}")
    return call(iter(sent))


def serving_model(engine: Any, **settings: Any) -> Any:
    return serving_engine(engine, grace_seconds=0, **settings)


async def wait_for_model(address: str) -> None:
    client = DraftClient(address, 10.0)
    await wait_until(client.is_serving, "serving")
    await client.close()


@pytest.mark.parametrize("role", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(role: str) -> None:
    """The answer says so in our words, not in those of Python."""
    service, methods = METHODS[role]
    async with client_of(role) as client, grpc.aio.insecure_channel(client.address) as channel:
        for method in methods:
            code, details = await failure_of(raw_call(channel, service, method, NO_MESSAGE))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details == "request: its bytes are not the method's message; allowed: the messages of protos/gsi/v1"


async def test_a_call_without_a_message_is_an_invalid_argument(draft: DraftClient) -> None:
    """A client of any make may end a call before it has said what it wants."""
    async with grpc.aio.insecure_channel(draft.address) as channel:
        code, details = await failure_of(raw_call(channel, "DraftService", "Propose"))
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "request: the call has no message; allowed: one")


def sampling(**fields: Any) -> candidates_pb2.SamplingParams:
    changed = candidates_pb2.SamplingParams()
    changed.CopyFrom(SAMPLING_PROTO)
    changed.MergeFrom(candidates_pb2.SamplingParams(**fields))
    return changed


@pytest.mark.parametrize(
    ("sent", "law", "message"),
    [
        ([[1] * 12_000], {}, "candidate 0 has 12000 token_ids; allowed: 1 to 512"),
        ([[1] * 512], {}, "candidate has 512 tokens; allowed: 1 to 510, the model's context less the prefix"),
        ([[1], [999_999]], {}, "candidate has token id 999999; allowed: 0 to 446"),
        ([[]], {}, "candidate 0 has 0 token_ids; allowed: 1 to 512"),
        ([], {}, "candidates.sequences has 0 candidates; allowed: 1 to 1024"),
        ([[1]] * 2000, {}, "candidates.sequences has 2000 candidates; allowed: 1 to 1024"),
        ([[1]], {"temperature": 1e-320}, "sampling.temperature is 1e-320; allowed: 0 for greedy, or 0.01 to 100.0"),
        ([[1]], {"temperature": float("nan")}, "sampling.temperature is nan; allowed: 0 for greedy, or 0.01 to 100.0"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
async def test_a_score_that_cannot_be_is_an_invalid_argument(
    target: TargetClient, sent: list[list[int]], law: dict[str, Any], message: str
) -> None:
    """The message names the field and what is allowed; no model is asked."""
    header = target_pb2.TargetScoreHeader(prefix_token_ids=[1, 2], sampling=sampling(**law))
    sequences = [target_pb2.TokenSequence(index=i, token_ids=token_ids) for i, token_ids in enumerate(sent)]
    candidates = target_pb2.TargetScoreCandidates(sequences=sequences)
    requests = [target_pb2.TargetScoreRequest(header=header), target_pb2.TargetScoreRequest(candidates=candidates)]
    async with grpc.aio.insecure_channel(target.address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        assert await failure_of(stub.Score(iter(requests))) == (grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_a_stream_has_no_more_candidates_than_a_proposal(target: TargetClient) -> None:
    """Not in one message, and not in many."""
    header = target_pb2.TargetScoreHeader(prefix_token_ids=[1], sampling=SAMPLING_PROTO)
    half = [target_pb2.TokenSequence(token_ids=[1])] * (MAX_REQUEST_CANDIDATES // 2 + 1)
    many = target_pb2.TargetScoreRequest(candidates=target_pb2.TargetScoreCandidates(sequences=half))
    async with grpc.aio.insecure_channel(target.address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        call = stub.Score(iter([target_pb2.TargetScoreRequest(header=header), many, many]))
        assert len((await call.read()).indices) == len(half)
        code, details = await failure_of(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "a Score stream has 1026 candidates; allowed: 1 to 1024"


def user(content: str) -> candidates_pb2.ChatMessage:
    return candidates_pb2.ChatMessage(role="user", content=content)


TOO_LONG = "x" * (MAX_TEXT_CHARACTERS + 1)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([user(TOO_LONG)], "messages has 3000001 characters; allowed: at most 3000000, all texts together"),
        ([user("x")] * 1001, "messages has 1001 messages; allowed: 1 to 1000"),
        (
            [candidates_pb2.ChatMessage(role="<|im_start|>")],
            "messages.role is '<|im_start|>'; allowed: system, user, assistant",
        ),
    ],
    ids=["text", "number", "role"],
)
async def test_a_conversation_that_is_too_much_is_refused(
    draft: DraftClient, sent: list[candidates_pb2.ChatMessage], message: str
) -> None:
    """No template and no tokenizer sees it."""
    async with grpc.aio.insecure_channel(draft.address) as channel:
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        refusal = await failure_of(stub.RenderPrompt(draft_pb2.RenderPromptRequest(messages=sent)))
    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("header", "texts", "message"),
    [
        ({"steps": ["x"] * 513}, ["x"], "steps has 513 steps; allowed: at most 512"),
        ({"steps": [TOO_LONG]}, ["x"], "messages and steps has 3000002 characters; allowed: at most 3000000"),
        ({}, [TOO_LONG], "candidates.texts has 3000001 characters; allowed: at most 3000000"),
        ({}, [], "candidates.texts has 0 candidates; allowed: 1 to 1024"),
    ],
    ids=["number of steps", "steps", "texts", "no texts"],
)
async def test_a_trajectory_that_is_too_much_is_refused(
    prm: Any, header: dict[str, Any], texts: list[str], message: str
) -> None:
    """The message names the field and what is allowed."""
    first = prm_pb2.PrmScoreHeader(messages=[user("x")], **header)
    candidates = prm_pb2.PrmScoreCandidates(texts=[prm_pb2.StepText(text=text) for text in texts])
    requests = [prm_pb2.PrmScoreRequest(header=first), prm_pb2.PrmScoreRequest(candidates=candidates)]
    async with grpc.aio.insecure_channel(prm.address) as channel:
        stub: Any = prm_pb2_grpc.PrmServiceStub(channel)
        code, details = await failure_of(stub.Score(iter(requests)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(message)


async def test_a_message_over_the_limit_is_the_caller_s_fault(draft: DraftClient) -> None:
    """No later call with it would pass, so it is not tried again."""
    with pytest.raises(InvalidRequestError, match=r"draft: .*larger than max"):
        await anext(draft.propose([1] * (MAX_REQUEST_BYTES + 1), 1, SAMPLING, 0))


class SlowTokenizer(EndlessEngine):
    """Renders a prompt for as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.may_end = threading.Event()

    def render(self, conversation: Sequence[Message]) -> tuple[int, ...]:
        self.begun.append(conversation[0].content)
        self.may_end.wait(30)
        return (1,)


async def test_a_service_answers_while_it_tokenises_and_drops_work_whose_caller_has_gone() -> None:
    """One prompt at a time is tokenised; the event loop goes on, and a prompt in line costs nothing once it is gone."""
    engine = SlowTokenizer()
    async with serving_model(engine) as server:
        await wait_for_model(server.address)
        client = DraftClient(server.address, 30.0)
        first = asyncio.create_task(client.render((Message("user", "1"),)))
        await wait_until(lambda: _equal(engine.begun, ["1"]), "the first is tokenised")
        assert await client.model_info() == engine.info
        second = asyncio.create_task(client.render((Message("user", "2"),)))
        await wait_until(lambda: shows("gsi_rpcs_in_flight", 2), "the second waits")
        second.cancel()
        await wait_until(lambda: shows("gsi_rpcs_in_flight", 1), "the second has gone")
        third = asyncio.create_task(client.render((Message("user", "3"),)))
        engine.may_end.set()
        assert [await first, await third] == [(1,), (1,)]
        assert engine.begun == ["1", "3"]
        await client.close()


async def _equal(value: object, expected: object) -> bool:
    return value == expected


async def test_a_long_text_does_not_hold_up_short_ones() -> None:
    """Each has a thread."""
    engine = SlowTokenizer()
    async with serving_model(engine) as server:
        await wait_for_model(server.address)
        client = DraftClient(server.address, 30.0)
        long = asyncio.create_task(client.render((Message("user", "x" * 100_000),)))
        await wait_until(lambda: _equal(len(engine.begun), 1), "the long one is tokenised")
        short = asyncio.create_task(client.render((Message("user", "y"),)))
        await wait_until(lambda: _equal(len(engine.begun), 2), "the short one is tokenised as well")
        engine.may_end.set()
        assert [await long, await short] == [(1,), (1,)]
        await client.close()


async def test_a_stream_without_its_first_message_ends(target: TargetClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold a place of the service for nothing."""
    monkeypatch.setattr(messages, "FIRST_MESSAGE_SECONDS", 0.2)
    async with grpc.aio.insecure_channel(target.address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        call = stub.Score(_never())
        await wait_until(lambda: shows("gsi_rpcs_in_flight", 1, "TargetService"), "it is served")
        assert await failure_of(call) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the call's first message did not come within 0.2 s",
        )
    await wait_until(lambda: shows("gsi_rpcs_in_flight", 0, "TargetService"), "its place is free")


async def _never() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


async def test_a_call_ends_after_the_service_s_own_deadline() -> None:
    """A client without a deadline holds the engine no longer than the service allows, and is told so."""
    engine = EndlessEngine()
    async with serving_model(engine, max_call_seconds=0.5) as server, grpc.aio.insecure_channel(server.address) as one:
        await wait_for_model(server.address)
        stub: Any = draft_pb2_grpc.DraftServiceStub(one)
        call = stub.Propose(candidates_pb2.ProposeRequest(prefix_token_ids=[1], n=1, sampling=SAMPLING_PROTO))
        await call.read()
        code, details = await failure_of(call)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert details == "the call took more than 0.5 s, the most that this service gives to one"
        await wait_until(lambda: _equal(engine.is_working, expected=False), "the engine stops")


async def test_one_address_does_not_have_the_whole_service() -> None:
    """The refusal says when to come back, and comes before the message is read."""
    engine = EndlessEngine()
    async with serving_model(engine, max_concurrent_rpcs=4, max_peer_share=0.5) as server:
        await wait_for_model(server.address)
        client = DraftClient(server.address, 60.0)
        async with (
            aclosing(client.propose((1,), 1, SAMPLING, 0)) as one,
            aclosing(client.propose((1,), 1, SAMPLING, 0)) as two,
            grpc.aio.insecure_channel(server.address) as other,  # a connection of its own does not help
        ):
            await asyncio.gather(anext(one), anext(two))
            with pytest.raises(RetryableError, match="2 requests of this address are being served") as raised:
                await client.model_info()
            assert raised.value.retry_after_seconds == 0.5
            code, _ = await failure_of(raw_call(other, "DraftService", "Propose", NO_MESSAGE))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await client.close()


def test_other_addresses_have_the_rest() -> None:
    """The limit of the whole service holds for all of them; a call that ends makes room."""
    admission = Admission(max_calls=4, max_peer_share=0.5)
    with admission.count("ipv4:10.0.0.1:5"), admission.count("ipv4:10.0.0.1:6"):
        with admission.count("ipv6:%5B::1%5D:7"), admission.count("ipv6:%5B::1%5D:8"):
            admission.refuse_if_full("ipv6:%5B::1%5D:8")
            with admission.count("ipv4:10.0.0.2:9"), pytest.raises(RetryableError, match="4 requests are being"):
                admission.refuse_if_full("ipv4:10.0.0.2:9")
        with admission.count("ipv4:10.0.0.1:7"), pytest.raises(RetryableError, match="2 requests of this address"):
            admission.refuse_if_full("ipv4:10.0.0.1:7")
    with admission.count("ipv4:10.0.0.1:8"):
        admission.refuse_if_full("ipv4:10.0.0.1:8")


def test_a_peer_is_an_address_without_its_port() -> None:
    """A socket of Unix has no port."""
    peers = ["ipv4:10.0.0.7:52110", "ipv6:%5B2001:db8::7%5D:52110", "unix:/run/gsi", "unix:"]
    assert [address_of(peer) for peer in peers] == ["ipv4:10.0.0.7", "ipv6:%5B2001:db8::7%5D", "unix:/run/gsi", "unix:"]
