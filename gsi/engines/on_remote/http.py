"""A model server's address: requests and answers in JSON, with the errors of ``gsi.errors``.

A request may be sent twice: the servers keep no state of a request, and a sampled candidate has its seed.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from gsi.engines.base import EngineSettings
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError

MAX_CONNECTIONS = 512  # one per request in flight; a proposal of n candidates is n requests
CONNECT_SECONDS = 5.0
SENDINGS = 3  # of a request whose connection failed
PAUSE_SECONDS = 0.2  # before a request is sent again, times the number of sendings so far
RETRY_AFTER_SECONDS = 1.0  # for a server that is full and does not say when to come back
SHOWN_CHARACTERS = 500  # of a server's error

URL = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")

for _name in ("httpx2", "httpcore2"):  # they would log each request, and at level debug its headers with the key
    logging.getLogger(_name).setLevel(logging.WARNING)


class Http:
    """A client of one server. Cancelling a request closes its connection, by which the server knows."""

    def __init__(self, settings: EngineSettings) -> None:
        self.url = check_url(settings.remote_url)
        key = read_key(settings)
        self._client = httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            timeout=httpx2.Timeout(settings.remote_timeout_seconds, connect=CONNECT_SECONDS, pool=None),
        )
        self.has_started = False  # from then on a refused key is waited out, as an operator may mend it at the server
        self._closing: asyncio.Task[None] | None = None

    async def get(self, path: str) -> Any:
        """Return the answer to a GET. Raises what ``post`` raises."""
        return await self._send("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a POST of JSON.

        Raises RetryableError for a server that is away, full or too slow, InvalidRequestError for a request that the
        server refuses, MisconfiguredError for a key that it refuses at the start, InternalError for an answer that is
        not JSON.
        """
        return await self._send("POST", path, body)

    async def find(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer at a path that a server may lack; None if it does."""
        try:
            return await self._send("GET" if body is None else "POST", path, body)
        except NoSuchPathError:
            return None

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Yield the events of a POST that is answered by server-sent events. Closing it closes the connection."""
        async with _translate_errors(self.url), self._client.stream("POST", path, json=body) as response:
            if response.is_error:
                await response.aread()
            self._raise_for(response)
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if line.startswith("data:") and data != "[DONE]":
                    yield _parse(self.url, data)

    def close(self) -> None:
        """Close the connections, once the event loop comes to it."""
        self._closing = asyncio.get_running_loop().create_task(self.wait_closed())

    async def wait_closed(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        for sending in range(1, SENDINGS + 1):
            try:
                async with _translate_errors(self.url):
                    response = await self._client.request(method, path, json=body)
                break
            except ConnectionLostError:
                if sending == SENDINGS:
                    raise
                await asyncio.sleep(PAUSE_SECONDS * sending)
        self._raise_for(response)
        return _parse(self.url, response.text)

    def _raise_for(self, response: httpx2.Response) -> None:
        """Raise the error that a status stands for."""
        if not response.is_error and not response.is_redirect:
            return
        status, said = response.status_code, _read_error(response)
        match status:
            case 404 | 405 if _is_missing_path(response):
                raise NoSuchPathError(f"{self.url}{response.request.url.path}: no such path")
            case 401 | 403 if self.has_started:
                raise RetryableError(f"{self.url} answers {status}, {said}; an operator has to let this service in")
            case 401:
                raise MisconfiguredError(f"{self.url} answers 401, {said}; set the API key of this server")
            case 429:
                seconds = _read_seconds(response.headers.get("retry-after"))
                raise RetryableError(f"{self.url} is full: {said}", retry_after_seconds=seconds)
            case _ if 400 <= status < 500:
                raise InvalidRequestError(f"{self.url} refuses the request: {said}")
            case _ if status >= 500:
                raise RetryableError(f"{self.url} answers {status}: {said}")
        raise MisconfiguredError(f"{self.url} answers {status}; allowed: a model server, without redirects")


class NoSuchPathError(InvalidRequestError):
    """The server has no such path. A model that it does not serve also gives 404, with an error in JSON."""


class ConnectionLostError(RetryableError):
    """The connection could not be made, or broke before the answer."""


def check_url(url: str | None) -> str:
    """Return a server's address without a slash at its end. Raises MisconfiguredError that says what is allowed."""
    if not url or not URL.fullmatch(url):
        raise MisconfiguredError(
            f"remote_url: {'unset' if not url else 'not the address of a server'}; allowed with engine remote: "
            "http://host:port or https://host:port, with a path if the server is behind one, without a password"
        )
    return url.rstrip("/").removesuffix("/v1")  # as clients of OpenAI's interface write it


def read_key(settings: EngineSettings) -> str:
    """Return the key for the server; "" without one. Raises MisconfiguredError if its file cannot be read."""
    if settings.remote_api_key is not None:
        return settings.remote_api_key.get_secret_value()
    if settings.remote_api_key_file is None:
        return ""
    try:
        return settings.remote_api_key_file.read_text().strip()
    except OSError as error:
        raise MisconfiguredError(f"remote_api_key_file: {settings.remote_api_key_file}: {error.strerror}") from error


@asynccontextmanager
async def _translate_errors(url: str) -> AsyncIterator[None]:
    """Raise the errors of ``gsi.errors`` instead of httpx2's."""
    try:
        yield
    except httpx2.ConnectTimeout as error:
        raise ConnectionLostError(f"{url} cannot be reached: no connection in {CONNECT_SECONDS:.0f} s") from error
    except httpx2.TimeoutException as error:
        raise RetryableError(f"{url} gave no answer in time", is_deadline=True) from error
    except httpx2.TransportError as error:
        raise ConnectionLostError(f"{url} cannot be reached: {error or type(error).__name__}") from error


def _parse(url: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InternalError(f"{url} answers with something else than JSON") from error


def _read_error(response: httpx2.Response) -> str:
    """Return what a server says of an error: in JSON in one of three forms, or as text."""
    try:
        said = response.json()
    except ValueError:
        return response.text[:SHOWN_CHARACTERS] or response.reason_phrase
    if isinstance(said, dict):
        said = said.get("error") or said.get("detail") or said.get("message") or said
    if isinstance(said, dict):
        said = said.get("message") or said
    return str(said)[:SHOWN_CHARACTERS]


def _is_missing_path(response: httpx2.Response) -> bool:
    """Return whether a 404 is of the path, and not of a model that vLLM does not serve."""
    return not _read_error(response).startswith("The model")


def _read_seconds(retry_after: str | None) -> float:
    try:
        return float(retry_after or RETRY_AFTER_SECONDS)
    except ValueError:  # a date, which nobody sends
        return RETRY_AFTER_SECONDS
