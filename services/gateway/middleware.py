"""What is done around every request: its id, its body's limit, its line in the log and its metrics."""

import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gsi.runtime.tls import is_loopback
from services.gateway import metrics
from services.gateway.errors import LEFT_STATUS, ApiError

log = structlog.get_logger()

_PORT = re.compile(r":\d+$")
CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")  # a client's own id of a request, which goes to the log alone
FILES_ROUTE = "/v1/files"
FORM_BYTES = 65_536  # of a form around a file
DISCARDED_BYTES = 32 * 2**20  # of a body that is too long
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEALTH_ROUTE = "/health"
QUIET_ROUTES = frozenset({HEALTH_ROUTE, "/ready", "/", "/page/{path:path}"})


class RequestScope:
    """Gives a request an id, reads its body up to a limit, and notes how it was answered."""

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        max_file_bytes: int,
        max_header_bytes: int,
        is_full: Callable[[], bool],
        *,
        is_local: bool,
        allowed_origins: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._is_full = is_full
        self._is_local = is_local
        self._allowed_origins = frozenset(allowed_origins)
        self._max_file_bytes = max_file_bytes
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, status = secrets.token_hex(12), time.perf_counter(), LEFT_STATUS
        if scope["method"] == "HEAD":  # a GET, of whose answer the server sends the headers alone
            scope = {**scope, "method": "GET"}
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id, **_client_id(scope)):
            metrics.OPEN_REQUESTS.inc()
            try:
                await self._answer(scope, receive, send_with_id)
            finally:
                metrics.OPEN_REQUESTS.dec()
                _note(scope, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._is_full() and scope["path"] != HEALTH_ROUTE:  # a process that is busy is not to be restarted
                raise _full()
            if self._is_local:
                _check_host(scope)
                _check_origin(scope, self._allowed_origins)
            _check_headers(scope, self._max_header_bytes)
            if scope["path"] == FILES_ROUTE:
                _check_length(scope, self._max_file_bytes)
                await self._app(scope, receive, send)  # a file is not held in memory
                return
            body = await _read_body(receive, self._max_body_bytes)
        except ApiError as error:
            await error.to_response()(scope, receive, send)
            return
        is_read = False

        async def receive_body() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send)


def _full() -> ApiError:
    message = "the gateway has as many connections as it may have; come back in 1 s"
    headers = {"Retry-After": "1", "Connection": "close"}
    return ApiError(503, message, kind="server_error", code="too_many_connections", headers=headers)


async def _read_body(receive: Receive, most: int) -> bytes:
    """Read a body. Raises ApiError 413 for one that is longer than ``most`` bytes, which is not kept.

    The rest is read, up to a limit, because a client that is still sending may not see the answer.
    """
    parts: list[bytes] = []
    length, is_whole = 0, False
    while not is_whole and length <= most + DISCARDED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        length += len(message.get("body", b""))
        if length <= most:
            parts.append(message.get("body", b""))
        is_whole = not message.get("more_body", False)
    if length > most:
        headers = {} if is_whole else {"Connection": "close"}
        raise ApiError(413, f"the body is longer than {most} bytes", code="body_too_large", headers=headers)
    return b"".join(parts)


def _check_host(scope: Scope) -> None:
    """Raise ApiError 403 unless the request is for this machine by a name of its own.

    Without keys loopback is the border. A page of another site, whose name leads here (DNS rebinding), would pass it.
    """
    host = Headers(scope=scope).get("host", "")
    if not is_loopback(host if _PORT.search(host) else f"{host}:0"):
        raise ApiError(403, f"host {host[:100]} is not this machine; keys are needed for that", code="host_not_allowed")


def _check_origin(scope: Scope, allowed: Collection[str]) -> None:
    """Raise ApiError 403 for a request to change something that a page of another site sends.

    Without keys a browser would send such a page's form as it sends the user's own requests. It says the page's origin.
    """
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if scope["method"] in READING_METHODS or origin is None or origin in allowed:
        return
    if origin.partition("://")[2] != headers.get("host"):
        raise ApiError(403, f"origin {origin[:100]} is not this gateway's page", code="origin_not_allowed")


def _check_length(scope: Scope, most: int) -> None:
    """Raise ApiError for a request with a body whose length is not told, or is above the limit."""
    told = Headers(scope=scope).get("content-length")
    if scope["method"] == "POST" and told is None:
        raise ApiError(411, "a file needs a header Content-Length", code="length_required")
    if int(told or 0) > most + FORM_BYTES:
        headers = {"Connection": "close"}
        raise ApiError(413, f"the file is longer than {most} bytes", code="file_too_large", headers=headers)


def _check_headers(scope: Scope, most: int) -> None:
    """Raise ApiError 431 for headers longer than ``most`` bytes; uvicorn stops reading only if they come in parts."""
    length = len(scope["raw_path"]) + len(scope["query_string"])
    length += sum(len(name) + len(value) for name, value in scope["headers"])
    if length > most:
        raise ApiError(431, f"the headers are longer than {most} bytes", code="headers_too_large")


def _client_id(scope: Scope) -> dict[str, str]:
    given = Headers(scope=scope).get("x-request-id", "")
    return {"client_request": given} if CLIENT_ID.fullmatch(given) else {}


def _note(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    metrics.REQUESTS.labels(route=route, status=str(status)).inc()
    metrics.REQUEST_SECONDS.labels(route=route).observe(seconds)
    caller = scope["state"].get("caller")
    if caller and scope["method"] == "POST":
        metrics.observe_tenant_request(caller.tenant, status)
    if route not in QUIET_ROUTES:
        told = {"tenant": caller.tenant, "key": caller.key.id if caller.key else None} if caller else {}
        log.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4), **told)
