"""A model server that is away, slow, full, in need of a key, or given up by the caller."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.finding import WATCH_SECONDS, wait_for_server, watch_model
from gsi.engines.on_remote.http import Http, check_url
from gsi.engines.on_remote.language import RemoteEngine
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.local.embedded_redis import free_port
from gsi.rpc.errors import to_status
from tests.conftest import MODELS, wait_until
from tests.engines.model_servers import TableModel, vllm_server
from tests.engines.small_server import Answer, Body, SmallServer

SECRET = "hunter2"


async def echo(body: Body) -> Answer:
    return 200, body


async def never(_: Body) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


def make_http(server: SmallServer, **other: Any) -> Http:
    return Http(EngineSettings("any", remote_url=server.url, **other))


async def test_a_lost_connection_is_made_again() -> None:
    """A server closes connections that it has not used for a while; the request is sent once more."""
    async with SmallServer({"/echo": echo}, drops=2).listen() as server:
        http = make_http(server)
        assert await http.post("/echo", {"a": 1}) == {"a": 1}
        assert len(server.asked) == 3
        await http.wait_closed()


async def test_a_lost_server_is_unavailable_and_retried_as_other_services_are() -> None:
    """gRPC's status is UNAVAILABLE, without a time to come back (decision 0006)."""
    async with SmallServer({"/echo": echo}, drops=100).listen() as server:
        http = make_http(server)
        with pytest.raises(RetryableError, match="cannot be reached") as lost:
            await http.post("/echo", {})
        await http.wait_closed()
    code, _, _ = to_status(lost.value)
    assert code.name == "UNAVAILABLE"


async def test_a_slow_server_is_a_deadline() -> None:
    """The server worked on the request and was too slow, so retrying for ever would not help."""
    async with SmallServer({"/slow": never}).listen() as server:
        http = make_http(server, remote_timeout_seconds=0.2)
        with pytest.raises(RetryableError, match="no answer in time") as slow:
            await http.post("/slow", {})
        assert slow.value.is_deadline
        await http.wait_closed()


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, {"error": {"message": "too long"}}, InvalidRequestError, "refuses the request: too long"),
        (422, {"detail": "no such field"}, InvalidRequestError, "no such field"),
        (401, {"error": "Unauthorized"}, MisconfiguredError, "answers 401, Unauthorized; set the API key"),
        (503, {"message": "loading"}, RetryableError, "answers 503: loading"),
        (302, {}, MisconfiguredError, "answers 302; allowed: a model server, without redirects"),
    ],
)
async def test_a_status_is_the_error_of_whoever_is_at_fault(
    status: int, body: Body, error: type[Exception], words: str
) -> None:
    """The server's own words are kept."""

    async def answer(_: Body) -> Answer:
        return status, body

    async with SmallServer({"/x": answer}).listen() as server:
        http = make_http(server)
        with pytest.raises(error, match=words):
            await http.post("/x", {})
        await http.wait_closed()


async def test_a_key_that_a_server_refuses_later_is_waited_out() -> None:
    """Jobs wait, as for a service whose certificate is refused; an operator mends the key at the server."""

    async def refuse(_: Body) -> Answer:
        return 401, {"error": "Unauthorized"}

    async with SmallServer({"/x": refuse}).listen() as server:
        http = make_http(server)
        http.has_started = True
        with pytest.raises(RetryableError, match="an operator has to let this service in"):
            await http.post("/x", {})
        await http.wait_closed()


async def test_a_full_server_says_when_to_come_back() -> None:
    """Status 429 is RESOURCE_EXHAUSTED with the server's own time."""

    async def full(_: Body) -> Answer:
        return 429, {"error": "full"}

    async with SmallServer({"/x": full}, retry_after="3").listen() as server:
        http = make_http(server)
        with pytest.raises(RetryableError, match="is full: full") as refused:
            await http.post("/x", {})
        assert refused.value.retry_after_seconds == 3.0
        await http.wait_closed()


async def test_a_cancelled_request_closes_its_connection() -> None:
    """By this the server knows that nobody waits for the tokens."""
    async with SmallServer({"/slow": never}).listen() as server:
        http = make_http(server)
        request = asyncio.create_task(http.post("/slow", {}))

        async def is_asked() -> bool:
            return bool(server.asked)

        await wait_until(is_asked, "the server has the request")
        request.cancel()

        async def is_given_up() -> bool:
            return server.given_up == ["/slow"]

        await wait_until(is_given_up, "the server sees that the client has gone")
        await http.wait_closed()


async def test_a_closed_proposal_gives_up_its_requests() -> None:
    """A step that has been decided wants no more candidates."""
    server = vllm_server(TableModel())
    async with server.listen():
        settings = EngineSettings(str(MODELS / "target"), remote_url=server.url, likelihood=Likelihood.MODEL)
        engine = await RemoteEngine.load(settings)
        server.routes["/v1/completions"] = never
        server.asked.clear()
        stream = engine.propose([1, 2], 5, SamplingParams(likelihood=Likelihood.MODEL), 0)
        waiting = asyncio.create_task(anext(stream))

        async def are_asked() -> bool:
            return len(server.asked) == 5

        await wait_until(are_asked, "all candidates are asked for")
        waiting.cancel()

        async def are_given_up() -> bool:
            return len(server.given_up) == 5

        await wait_until(are_given_up, "none is being written")
        await engine.http.wait_closed()


async def test_a_service_waits_for_a_server_that_starts_later() -> None:
    """Both may be started at once; a model takes minutes to load."""
    port = free_port()
    settings = EngineSettings("any", remote_url=f"http://127.0.0.1:{port}", remote_wait_seconds=30)
    http = Http(settings)
    waiting = asyncio.create_task(wait_for_server(http, settings))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with vllm_server(TableModel()).listen(port):
        kind, model = await waiting
        assert (kind, model["id"]) == ("vllm", "a-table")
        await http.wait_closed()


async def test_a_server_that_stays_away_is_named() -> None:
    """After the time that the settings allow."""
    settings = EngineSettings("any", remote_url=f"http://127.0.0.1:{free_port()}", remote_wait_seconds=0.1)
    http = Http(settings)
    with pytest.raises(MisconfiguredError, match=r"remote_url: .*cannot be reached.*; waited \d+ s for the model serv"):
        await wait_for_server(http, settings)
    await http.wait_closed()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"id": "m", "owned_by": "somebody"}, "remote_kind: .* set it to one of vllm, sglang, llamacpp"),
        (None, "lists no model"),
    ],
)
async def test_a_server_that_does_not_say_what_it_is_is_refused(model: Body | None, words: str) -> None:
    """The kind can be set."""

    async def models(_: Body) -> Answer:
        return 200, {"data": [model] if model else []}

    async with SmallServer({"/v1/models": models}).listen() as server:
        settings = EngineSettings("any", remote_url=server.url)
        http = Http(settings)
        with pytest.raises(MisconfiguredError, match=words):
            await wait_for_server(http, settings)
        await http.wait_closed()


async def test_a_server_with_another_model_ends_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would score with other weights than the service describes; the restarted service looks again."""
    monkeypatch.setattr("gsi.engines.on_remote.finding.WATCH_SECONDS", WATCH_SECONDS / 1000)
    server = vllm_server(TableModel())
    async with server.listen():
        http = make_http(server)
        watching = asyncio.create_task(watch_model(http, "a-table"))
        server.drops = 4  # a server that is away for a while has no other model
        await asyncio.sleep(0.1)
        assert not watching.done()

        async def models(_: Body) -> Answer:
            return 200, {"data": [{"id": "another", "owned_by": "vllm"}]}

        server.routes["/v1/models"] = models
        assert await watching == f"{server.url} now serves another, and not a-table"
        await http.wait_closed()


@pytest.mark.parametrize("as_file", [False, True])
async def test_the_key_is_sent_and_never_shown(as_file: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a log at level debug nor an error has it."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    key = {"remote_api_key_file": tmp_path / "key"} if as_file else {"remote_api_key": SecretStr(SECRET)}
    caplog.set_level(logging.DEBUG)
    async with SmallServer({"/echo": echo}).listen() as server:
        settings = EngineSettings("any", remote_url=server.url, **key)
        http = Http(settings)
        await http.post("/echo", {})
        assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
        with pytest.raises(InvalidRequestError) as missing:
            await http.post("/nothing", {})
        await http.wait_closed()
    assert SECRET not in caplog.text + str(missing.value) + repr(settings)


async def test_a_key_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """Before anything is asked."""
    settings = EngineSettings("any", remote_url="http://a:1", remote_api_key_file=tmp_path / "none")
    with pytest.raises(MisconfiguredError, match=r"remote_api_key_file: .*none: No such file"):
        Http(settings)


@pytest.mark.parametrize("url", ["", "ftp://a:1", "http://user:hunter2@a:1", "http://", "a:1", "http://a b"])
def test_other_addresses_than_of_http_are_refused(url: str) -> None:
    """An address with a password is not repeated in the error."""
    with pytest.raises(MisconfiguredError, match="allowed with engine remote: http://host:port") as refused:
        check_url(url)
    assert SECRET not in str(refused.value)


def test_an_address_may_end_as_openai_s_clients_write_it() -> None:
    """The paths behind it are those of the server's root."""
    assert check_url("http://a:8000/v1/") == check_url("http://a:8000") == "http://a:8000"
    assert check_url("https://gateway/team/v1") == "https://gateway/team"


async def test_an_answer_that_is_not_json_is_an_error_here() -> None:
    """Such as the page of a proxy."""
    server = await asyncio.start_server(_answer_text, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        http = Http(EngineSettings("any", remote_url=f"http://127.0.0.1:{port}"))
        with pytest.raises(InternalError, match="something else than JSON"):
            await http.get("/v1/models")
        await http.wait_closed()


async def _answer_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    await writer.drain()
    writer.close()
