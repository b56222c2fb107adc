"""The three services as the ports of a step (``gsi.algorithm.ports``), with deadlines, errors, metrics and traces."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2

from gsi.algorithm.candidates import Message
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TextBatches, TokenBatches
from gsi.errors import MisconfiguredError, RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc import call_context, convert
from gsi.rpc.connection import ServiceConnection
from gsi.rpc.errors import RETRYABLE_CODES, from_rpc_error, reason_of
from gsi.rpc.replicas import NoteChoice, Replicas
from gsi.runtime.metrics import RPC_SECONDS
from gsi.runtime.tls import CertificateFiles
from gsi.runtime.tracing import NOTHING, tracing
from gsi.v1 import candidates_pb2, draft_pb2, draft_pb2_grpc, prm_pb2, prm_pb2_grpc, target_pb2, target_pb2_grpc

log = structlog.get_logger()

# A replica of an older release answers UNIMPLEMENTED to a call that it lacks.
REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)
REFUSAL_SECONDS = 0.05  # from a call's initial metadata, which a refusal lacks, to its status: they come together

PHASES = {  # the names of the calls of a job in its trace; other calls belong to no job
    ("draft", "RenderPrompt"): "render",
    ("draft", "Propose"): "draft",
    ("draft", "Judge"): "judge by draft",
    ("target", "Judge"): "judge by target",
    ("target", "Score"): "score by target",
    ("prm", "Score"): "score by prm",
    ("target", "Propose"): "target",
}


class ServiceClient:
    """One service: its connection, its role, which errors name, and the deadline of a call in seconds.

    With ``files`` the connection is mutual TLS; without them it is plain text. With ``note_choice``, which is told of
    each choice of a replica, a job's calls go to the replica that has its prefix; without it they take turns.
    """

    role: str
    grpc_service: str
    stub_kind: Any

    def __init__(
        self,
        address: str,
        timeout_seconds: float,
        files: CertificateFiles | None = None,
        note_choice: NoteChoice | None = None,
    ) -> None:
        self.address = address
        self.model: ModelInfo | None = None  # answers of other models are refused; None: any model may answer
        self._strangers: set[ModelInfo] = set()  # other models of replicas; each is logged once
        self.busy_share = 1.0  # of the calls at once of the replica that answered last; 1: full, or it has not said
        self.why_not_serving = ""  # what the last ``is_serving`` ended with
        self._timeout = timeout_seconds
        self.replicas = Replicas(address, partial(self._connect, files), note_choice)

    def _connect(self, files: CertificateFiles | None, address: str, authority: str | None = None) -> ServiceConnection:
        return ServiceConnection(address, self.grpc_service, self.stub_kind, files, self._timeout, authority)

    @property
    def _stub(self) -> Any:
        """The stub for a call of no job, or one that reads no prefix."""
        return self.replicas.in_turn.stub

    async def close(self) -> None:
        await self.replicas.close()

    async def is_serving(self) -> bool:
        """Return whether a replica is ready, by the standard health service, within a second."""
        self.replicas.look_up()
        try:
            request = health_pb2.HealthCheckRequest(service=self.grpc_service)
            answer = await self.replicas.in_turn.health.Check(request, timeout=1.0)
        except grpc.aio.AioRpcError as error:
            self.why_not_serving = reason_of(error)
            self.replicas.resolve_again()
            return False
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.why_not_serving = "the call was on a channel that has been replaced"  # gRPC cancels such a call itself
            return False
        self.why_not_serving = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    @asynccontextmanager
    async def _observe_call(self, method: str) -> AsyncIterator[call_context.Metadata]:
        """Time and trace a call, and translate its error. Yields the metadata of the call."""
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        phase = PHASES.get((self.role, method))
        span = tracing.begin_phase(phase) if phase else NOTHING
        try:
            yield call_context.outgoing(span.traceparent)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise from_rpc_error(error, self.role) from error
        except BaseException:
            code = grpc.StatusCode.CANCELLED
            raise
        finally:
            service = self.grpc_service.removeprefix("gsi.v1.")
            RPC_SECONDS.labels(service, method, code.name).observe(time.perf_counter() - started)
            call_context.end(span, code)

    @asynccontextmanager
    async def _open(self, start: Callable[[Any], Any]) -> AsyncIterator[Any]:
        """Start a call at the job's replica, or at the next one if that refuses it; cancel it when this block ends.

        ``start`` gets the stub. Where there are other replicas, the call has been admitted when this block begins.
        """
        job = call_context.job()
        tried: list[str] = []
        while True:
            with self.replicas.choose(job, tried) as chosen:
                async with _cancel_at_end(start(chosen.connection.stub)) as call:
                    if chosen.has_others and await self._is_refused(call):
                        self.replicas.avoid(job, chosen)
                        tried.append(chosen.address)
                        continue
                    self.replicas.note(chosen)
                    try:
                        yield call
                    except (grpc.aio.AioRpcError, RetryableError) as error:
                        if isinstance(error, RetryableError) or error.code() in RETRYABLE_CODES:
                            self.replicas.avoid(job, chosen)
                        raise
                    return

    async def _is_refused(self, call: Any) -> bool:
        """Return whether the replica is full, stops, is gone, or has another model, and another one should be asked."""
        told = await self._read_introduction(call)
        if told is not None:
            return self._is_stranger(told)
        with suppress(TimeoutError):  # a refusal has come as a whole; who is only slow has not refused
            return await asyncio.wait_for(call.code(), REFUSAL_SECONDS) in REFUSALS
        return False

    async def _read_introduction(self, call: Any) -> ModelInfo | None:
        """Return the model of the replica that answers; note how much it has to do."""
        metadata = await call.initial_metadata()
        self.busy_share = convert.busy_share_from_metadata(metadata)
        return convert.info_from_metadata(metadata)

    def _is_stranger(self, told: ModelInfo) -> bool:
        """Return whether this is another model than ours; log each other model once."""
        if self.model is None or told.is_same_model(self.model):
            return False
        if told not in self._strangers:
            self._strangers.add(told)
            log.warning(
                "a replica has another model; its answers are not used",
                service=self.role,
                model=told.model,
                revision=told.revision,
                tokenizer=told.tokenizer_fingerprint,
                ours=self.model.model,
            )
        return True

    async def _refuse_stranger(self, call: Any) -> None:
        """Raise RetryableError if the replica that answers has another model: another replica may have ours."""
        told = await self._read_introduction(call)
        if told is None or self.model is None or not self._is_stranger(told):
            return
        text = (
            f"{self.role}: a replica answered with model {told.model}, not with {self.model.model} as it was described"
        )
        raise RetryableError(text, service=self.role, has_reached=False)

    async def model_info(self) -> ModelInfo:
        """Return the model of one replica: the replica whose turn it is.

        Raises MisconfiguredError if our certificate may not call. Other calls raise RetryableError then: a coordinator
        with the wrong certificate does not start, and one whose rights have been taken away keeps its jobs.
        """
        request = candidates_pb2.GetModelInfoRequest()
        async with self._observe_call("GetModelInfo") as metadata:
            try:
                answer = await self._stub.GetModelInfo(request, timeout=self._timeout, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    raise MisconfiguredError(f"{self.role}: {reason_of(error)}") from error
                raise
        return convert.info_from_proto(answer)

    async def _propose(self, request: candidates_pb2.ProposeRequest) -> CandidateBatches:
        async with (
            self._observe_call("Propose") as metadata,
            self._open(lambda stub: stub.Propose(request, timeout=self._timeout, metadata=metadata)) as call,
        ):
            await self._refuse_stranger(call)
            async for response in call:
                yield [convert.candidate_from_proto(candidate) for candidate in response.candidates]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        """Ask a language model for the probabilities of a question's labels (``gsi.algorithm.ports.Judge``)."""
        request = convert.question_to_proto(prefix, question)
        async with (
            self._observe_call("Judge") as metadata,
            self._open(lambda stub: stub.Judge(request, timeout=self._timeout, metadata=metadata)) as call,
        ):
            await self._refuse_stranger(call)
            answer = await call
        return convert.probabilities_from_proto(answer, len(question.labels))

    async def _score(self, requests: AsyncGenerator[Any, None]) -> ScoreBatches:
        async with (
            self._observe_call("Score") as metadata,
            self._open(lambda stub: stub.Score(timeout=self._timeout, metadata=metadata)) as call,
            _sending(call, requests),
        ):
            await self._refuse_stranger(call)
            async for response in call:
                yield convert.scores_from_proto(response)


class DraftClient(ServiceClient):
    """The draft service as a port: it proposes candidates and renders prompts."""

    role = "draft"
    grpc_service = "gsi.v1.DraftService"
    stub_kind = draft_pb2_grpc.DraftServiceStub

    async def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the draft's chat template."""
        token_ids, _ = await self._render(messages, with_text=False)
        return token_ids

    async def render_with_text(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], str]:
        """Return the token ids of the conversation, and the same as text; "" from a service of an older release."""
        return await self._render(messages, with_text=True)

    async def _render(self, messages: Sequence[Message], *, with_text: bool) -> tuple[tuple[int, ...], str]:
        request = draft_pb2.RenderPromptRequest(messages=convert.messages_to_proto(messages), with_text=with_text)
        async with (
            self._observe_call("RenderPrompt") as metadata,
            _cancel_at_end(self._stub.RenderPrompt(request, timeout=self._timeout, metadata=metadata)) as call,
        ):
            await self._refuse_stranger(call)
            answer = await call
        return tuple(answer.token_ids), answer.text

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        return self._propose(_make_propose_request(prefix, n, sampling, seed))


class TargetClient(ServiceClient):
    """The target service as a port: it proposes and scores candidates."""

    role = "target"
    grpc_service = "gsi.v1.TargetService"
    stub_kind = target_pb2_grpc.TargetServiceStub

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        return self._propose(_make_propose_request(prefix, n, sampling, seed))

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        async def requests() -> AsyncGenerator[target_pb2.TargetScoreRequest, None]:
            yield target_pb2.TargetScoreRequest(
                header=target_pb2.TargetScoreHeader(
                    prefix_token_ids=prefix, sampling=convert.sampling_to_proto(sampling)
                )
            )
            async for batch in candidates:
                yield target_pb2.TargetScoreRequest(candidates=convert.tokens_to_proto(batch))

        return self._score(requests())


class PrmClient(ServiceClient):
    """The PRM service as a port: it rates candidates."""

    role = "prm"
    grpc_service = "gsi.v1.PrmService"
    stub_kind = prm_pb2_grpc.PrmServiceStub

    def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        async def requests() -> AsyncGenerator[prm_pb2.PrmScoreRequest, None]:
            yield prm_pb2.PrmScoreRequest(
                header=prm_pb2.PrmScoreHeader(messages=convert.messages_to_proto(messages), steps=steps)
            )
            async for batch in candidates:
                yield prm_pb2.PrmScoreRequest(candidates=convert.texts_to_proto(batch))

        return self._score(requests())


def _make_propose_request(
    prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int
) -> candidates_pb2.ProposeRequest:
    return candidates_pb2.ProposeRequest(
        prefix_token_ids=prefix, n=n, sampling=convert.sampling_to_proto(sampling), seed=seed
    )


@asynccontextmanager
async def _cancel_at_end(call: Any) -> AsyncIterator[Any]:
    """Cancel the call once its answers are no longer read, so that the service stops its engine's work."""
    try:
        yield call
    finally:
        call.cancel()  # a call that has ended stays as it is


@asynccontextmanager
async def _sending(call: Any, requests: AsyncGenerator[Any, None]) -> AsyncIterator[None]:
    """Send requests as they come until this block ends.

    gRPC would do so in a task of its own, which waits for the next request for ever once the service has refused the
    call: it, the call, and what the requests hold would stay until the garbage collector finds them.
    """
    sending = asyncio.create_task(_send(call, requests))
    try:
        yield
    finally:
        sending.cancel()
        (end,) = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(end, Exception):
            raise end


async def _send(call: Any, requests: AsyncGenerator[Any, None]) -> None:
    """Send requests up to the last one or to the end of the call, whose reader learns why it has ended."""
    async with aclosing(requests):
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError), ExitStack() as failure:
            failure.callback(call.cancel)  # without its last request there will be no last answer
            async for request in requests:
                await call.write(request)
                del request  # a header has the whole prefix, and the candidates may be long in coming
            await call.done_writing()
            failure.pop_all()
