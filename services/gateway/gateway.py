"""A request from its arrival to its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gsi.jobs.connection import RedisError
from gsi.jobs.errors import NewerReleaseError
from services.gateway import metrics
from services.gateway.answering import Leaving, answering
from services.gateway.answers import Answers
from services.gateway.documents import ChatDocument, TextDocument, to_json
from services.gateway.errors import LEFT_STATUS, ApiError
from services.gateway.guard import Caller, Guard
from services.gateway.headers import read_idempotency_key, read_traceparent
from services.gateway.ledger import Ledger
from services.gateway.queues import Queue
from services.gateway.requests import GenerationRequest
from services.gateway.settings import GatewaySettings
from services.gateway.translation import Order, Sender, make_order

LINE_END = "\n"
AWAY = ApiError(
    503, "Redis is unavailable", kind="server_error", code="redis_unavailable", headers={"Retry-After": "1"}
)
NEWER = "newer_release"
NO_ANSWER = (RedisError, NewerReleaseError)  # not the client's fault


class Gateway:
    """Answers requests by the jobs of its queues."""

    def __init__(self, settings: GatewaySettings, queues: Mapping[str, Queue], guard: Guard, ledger: Ledger) -> None:
        self.guard = guard
        self._ledger = ledger
        self.is_draining = False
        self.count_connections: Callable[[], int] = lambda: 0  # until a server listens
        self.result_ttl_seconds = settings.result_ttl_seconds
        self._settings = settings
        self.queues = queues
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether every queue can be read, and the gateway is not about to stop."""
        return not self.is_draining and self.can_read_queues

    @property
    def can_read_queues(self) -> bool:
        return all(queue.feed.connected.is_set() for queue in self.queues.values())

    async def wait_for_redis(self) -> None:
        """Return when every queue can be read."""
        for queue in self.queues.values():
            await queue.feed.connected.wait()

    async def answer(
        self,
        request: Request,
        caller: Caller,
        body: GenerationRequest,
        questions: Sequence[Mapping[str, Any]],
        document: type[ChatDocument | TextDocument],
    ) -> Response:
        """Answer questions, as a stream or whole. Raises ApiError for a request that is refused."""
        order, headers = await self.prepare(request, caller, body, questions)
        prefix = "chatcmpl" if document is ChatDocument else "cmpl"
        written = document(f"{prefix}-{request.state.request_id}", order.model)
        context = self.answering(order, caller)
        if order.is_stream:
            stack = AsyncExitStack()
            answers = await stack.enter_async_context(context)
            return self.stream(stack, _events(answers, written, stack), headers)
        async with context as answers:
            await until_client_leaves(request, answers.wait())
        return Response(to_json(written.whole(answers)), 200, headers, "application/json")

    async def prepare(
        self, request: Request, caller: Caller, body: GenerationRequest, questions: Sequence[Mapping[str, Any]]
    ) -> tuple[Order, dict[str, str]]:
        """Return a request as jobs, and the headers of its answer. Raises ApiError for a request that is refused."""
        preset = self.guard.find_model(caller, body.model)
        sender = Sender(
            request.state.request_id,
            caller.tenant,
            read_traceparent(request.headers),
            read_idempotency_key(request.headers),
        )
        order = make_order(body, questions, preset, sender, self.result_ttl_seconds)
        return order, await self.guard.admit(caller)

    @asynccontextmanager
    async def answering(self, order: Order, caller: Caller) -> AsyncIterator[Answers]:
        """Submit an order's jobs, and follow them while the block runs."""
        entry = await self._ledger.open(caller, order)
        leaving = Leaving(entry, lambda: not self.is_draining, self._go_on)
        async with answering(order, self.queues[order.preset.queue], leaving) as answers:
            yield answers

    def stream(self, stack: AsyncExitStack, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
        """Return events as a response, which closes the stack at its end."""
        return _Stream(stack, events, headers, self._settings.heartbeat_seconds)

    async def finish(self) -> None:
        """Stop waiting for jobs whose clients are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Stream(EventSourceResponse):
    """Server-sent events. The jobs are left when the response ends, also if it never began."""

    def __init__(
        self, stack: AsyncExitStack, events: AsyncIterator[bytes], headers: Mapping[str, str], heartbeat: float
    ) -> None:
        super().__init__(events, headers=headers, ping=heartbeat, sep=LINE_END, ping_message_factory=_heartbeat)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            with metrics.OPEN_STREAMS.track_inprogress():
                await super().__call__(scope, receive, send)


async def _events(
    answers: Answers, document: ChatDocument | TextDocument, stack: AsyncExitStack
) -> AsyncIterator[bytes]:
    try:
        for chunk in document.begin(answers):
            yield _event(chunk)
        async with aclosing(answers.pieces()) as pieces:
            async for piece in pieces:
                for chunk in document.chunks(answers, piece):
                    yield _event(chunk)
        if answers.order.with_usage:
            yield _event(document.usage(answers))
    except ApiError as error:
        yield _event(error.body)
    except NO_ANSWER as error:
        yield _event(explain(error).body)
    await stack.aclose()  # the next request of a client that reads the end finds the tokens of this one counted
    yield b"data: [DONE]\n\n"


def _event(document: Mapping[str, Any]) -> bytes:
    return f"data: {to_json(document)}\n\n".encode()


def _heartbeat() -> ServerSentEvent:
    return ServerSentEvent(comment="heartbeat", sep=LINE_END)


async def until_client_leaves(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Do the work. Raises ApiError if the client goes away before it is done."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_wait_for_end_of(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(LEFT_STATUS, "the client went away")
        await working
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait({working, leaving})


async def _wait_for_end_of(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def explain(error: Exception) -> ApiError:
    """Return what a client is told of one of NO_ANSWER."""
    if isinstance(error, NewerReleaseError):
        return ApiError(501, f"this gateway is older than the coordinators: {error}", kind="server_error", code=NEWER)
    return AWAY


def answer_error(_request: Request, error: Exception) -> JSONResponse:
    return explain(error).to_response()
