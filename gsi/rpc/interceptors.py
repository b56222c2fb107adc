"""The edge of a server, which admits, times and traces each call of ``gsi.v1`` and translates its error."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import structlog

from gsi.errors import RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc import call_context, convert
from gsi.rpc.callers import Callers
from gsi.rpc.errors import to_status
from gsi.rpc.metrics import PACKAGE, RPCS_IN_FLIGHT, short_name
from gsi.runtime.metrics import RPC_SECONDS

log = structlog.get_logger()

Handler = Any  # grpc.RpcMethodHandler: the generated stubs leave it untyped
RETRY_AFTER_SECONDS = 0.5  # about a step, in which a request finishes


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Admits at most ``max_concurrent_rpcs`` calls at once, of ``callers``. A call too many is told when to return."""

    def __init__(self, max_concurrent_rpcs: int, callers: Callers) -> None:
        self._callers = callers
        self._max_concurrent_rpcs = max_concurrent_rpcs
        self._introduction: tuple[tuple[str, bytes], ...] = ()
        self._num_active = 0
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def introduce(self, info: ModelInfo) -> None:
        """Send the model in front of each answer from now on: a replica may have another model than its siblings."""
        self._introduction = convert.info_to_metadata(info)

    async def drain(self, grace_seconds: float) -> None:
        """Refuse new calls. Return when the calls in flight have ended, or after the grace period."""
        self._is_draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), grace_seconds)

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
        async def answer(request: Any, context: Any) -> Any:
            async with self._admit_call(service, method, context):
                return await handler.unary_unary(request, context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._admit_call(service, method, context):
                async for response in (handler.unary_stream or handler.stream_stream)(request, context):
                    yield response

        codec = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(answer, *codec)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(stream, *codec)
        return grpc.stream_stream_rpc_method_handler(stream, *codec)

    @asynccontextmanager
    async def _admit_call(self, service: str, method: str, context: Any) -> AsyncIterator[None]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        span = call_context.begin_serving(f"{service}/{method}", context.invocation_metadata())
        self._count(1)
        try:
            with RPCS_IN_FLIGHT.labels(service).track_inprogress():
                self._callers.check(context)
                self._refuse_if_full()
                await context.send_initial_metadata(self._introduction)
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
            self._count(-1)
            seconds = time.perf_counter() - started
            RPC_SECONDS.labels(service, method, code.name).observe(seconds)
            call_context.end(span, code)
            log.debug("rpc", service=service, method=method, code=code.name, seconds=round(seconds, 6))

    def _count(self, change: int) -> None:
        self._num_active += change
        if self._num_active:
            self._is_idle.clear()
        else:
            self._is_idle.set()

    def _refuse_if_full(self) -> None:
        """Raise RetryableError if the server drains or has too many calls, the call of this moment included."""
        if self._is_draining:
            raise RetryableError("the service is shutting down")
        if self._num_active > self._max_concurrent_rpcs:
            raise RetryableError(
                f"{self._max_concurrent_rpcs} requests are being served, the most at once",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
