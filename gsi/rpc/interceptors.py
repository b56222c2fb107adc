"""The edge of a server, which admits, times and traces each call of ``gsi.v1`` and translates its error."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import structlog

from gsi.errors import InvalidRequestError, RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc import call_context, convert
from gsi.rpc.admission import Admission
from gsi.rpc.callers import Callers
from gsi.rpc.errors import to_status
from gsi.rpc.messages import decode_messages
from gsi.rpc.metrics import PACKAGE, RPCS_IN_FLIGHT, short_name
from gsi.runtime.metrics import RPC_SECONDS

log = structlog.get_logger()

Handler = Any  # grpc.RpcMethodHandler: the generated stubs leave it untyped


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls of ``callers``, and ends one that takes over ``max_call_seconds``, whatever its client allows.

    gRPC serves every method as a stream of bytes, in both directions. So a call is admitted before its first message
    is received, and a message is decoded when it is asked for. A client cannot tell the difference.
    """

    def __init__(self, admission: Admission, callers: Callers, max_call_seconds: float) -> None:
        self._admission = admission
        self._callers = callers
        self._max_call_seconds = max_call_seconds
        self._introduction: tuple[tuple[str, bytes], ...] = ()

    def introduce(self, info: ModelInfo) -> None:
        """Send the model in front of each answer from now on: a replica may have another model than its siblings.

        What it has to do is sent there as well (``convert.room_to_metadata``).
        """
        self._introduction = convert.info_to_metadata(info)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        _, service, method = handler_call_details.method.split("/")
        if handler is None or not service.startswith(PACKAGE):
            return handler
        return self._guard(handler, short_name(service), method)

    def _guard(self, handler: Handler, service: str, method: str) -> Handler:
        async def serve(raw: AsyncIterator[bytes], context: Any) -> None:
            async with (
                self._admit_call(service, method, context),
                aclosing(decode_messages(aiter(raw), handler.request_deserializer)) as requests,
                aclosing(_answer(handler, requests, context)) as answers,
            ):
                async for answer in answers:
                    await context.write(handler.response_serializer(answer))

        return grpc.stream_stream_rpc_method_handler(serve)

    @asynccontextmanager
    async def _admit_call(self, service: str, method: str, context: Any) -> AsyncIterator[None]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        span = call_context.begin_serving(f"{service}/{method}", context.invocation_metadata())
        try:
            with self._admission.count(context.peer()), RPCS_IN_FLIGHT.labels(service).track_inprogress():
                self._callers.check(context)
                self._admission.refuse_if_full(context.peer())
                async with self._deadline():
                    room = convert.room_to_metadata(*self._admission.room)
                    await context.send_initial_metadata((*self._introduction, *room))
                    yield
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            code, details, metadata = to_status(error)
            if code is grpc.StatusCode.INTERNAL:
                log.exception("rpc failed", service=service, method=method)
            await context.abort(code, details, metadata)
        finally:
            seconds = time.perf_counter() - started
            RPC_SECONDS.labels(service, method, code.name).observe(seconds)
            call_context.end(span, code)
            log.debug("rpc", service=service, method=method, code=code.name, seconds=round(seconds, 6))

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Raise RetryableError in a call that takes too long."""
        try:
            async with asyncio.timeout(self._max_call_seconds) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            text = f"the call took more than {self._max_call_seconds:g} s, the most that this service gives to one"
            raise RetryableError(text, is_deadline=True) from None


async def _answer(handler: Handler, requests: AsyncIterator[Any], context: Any) -> Any:
    """Yield the answers of a method of any kind to the messages of a call."""
    if handler.stream_stream:
        answers = handler.stream_stream(requests, context)
    else:
        request = await anext(requests, None)
        if request is None:
            raise InvalidRequestError("request: the call has no message; allowed: one")
        if handler.unary_unary:
            yield await handler.unary_unary(request, context)
            return
        answers = handler.unary_stream(request, context)
    async with aclosing(answers):
        async for answer in answers:
            yield answer
