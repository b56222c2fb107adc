"""Files and batches by OpenAI's own client: answered, refused, cancelled, expired, resumed after a kill."""

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from gsi.client.gateway import open_api_keys, open_store
from gsi.local.embedded_redis import embedded_redis
from tests.conftest import wait_until
from tests.gateway.engines import Scripted
from tests.gateway.system import Gateway, Models, scripted_models

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place for files, which is the same for all gateways."""
    return tmp_path_factory.mktemp("files")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batching(models: Models, folder: Path) -> AsyncIterator[Gateway]:
    """A gateway with a folder for files."""
    async with models.gateway("batching", {"GSI_GATEWAY_FILES": str(folder)}) as running:
        yield running


def line(custom_id: str, content: str, **body: Any) -> dict[str, Any]:
    said = {"model": "gsi", "messages": [{"role": "user", "content": content}], "gsi_n": 1, **body}
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": said}


async def start(client: AsyncOpenAI, lines: Sequence[Any], **arguments: Any) -> Any:
    """Upload lines and make a batch of them."""
    content = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines)
    file = await client.files.create(file=("lines.jsonl", content.encode()), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **arguments)


async def finished(client: AsyncOpenAI, batch_id: str) -> Any:
    found: Any = None

    async def has_ended() -> bool:
        nonlocal found
        found = await client.batches.retrieve(batch_id)
        return found.status in {"completed", "failed", "expired", "cancelled"}

    await wait_until(has_ended, "the batch has ended")
    return found


async def read(client: AsyncOpenAI, file_id: str | None) -> dict[str, Mapping[str, Any]]:
    """Return the lines of a file by their custom ids."""
    if file_id is None:
        return {}
    content = (await client.files.content(file_id)).text
    lines = [json.loads(each) for each in content.splitlines()]
    assert len({each["custom_id"] for each in lines}) == len(lines)
    return {each["custom_id"]: each for each in lines}


async def test_each_line_has_its_answer_or_its_error(batching: Gateway) -> None:
    """By its custom id, with the body that the route itself gives."""
    client = batching.openai()
    lines = [
        line("right", "One. |Two."),
        line("two", "5", n=2),
        line("wrong", "5", temperature=-1),
        line("unknown", "5", model="none"),
        line("fails", "unreadable"),
    ]
    made = await start(client, lines, metadata={"run": "7"})
    assert (made.status, made.object, made.metadata) == ("validating", "batch", {"run": "7"})
    ended = await finished(client, made.id)
    assert (ended.status, ended.model) == ("completed", "gsi")
    written = len("One. Two.") + 2 + 2 * len("5|")
    assert (ended.usage.output_tokens, ended.usage.total_tokens - ended.usage.input_tokens) == (written, written)
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (5, 2, 3)
    output, errors = await read(client, ended.output_file_id), await read(client, ended.error_file_id)
    assert output["right"]["response"]["body"]["choices"][0]["message"]["content"] == "One. Two."
    assert output["right"]["response"]["status_code"] == 200
    assert len(output["two"]["response"]["body"]["choices"]) == 2
    statuses = {name: each["response"]["status_code"] for name, each in errors.items()}
    assert statuses == {"wrong": 400, "unknown": 404, "fails": 400}
    assert errors["wrong"]["response"]["body"]["error"]["param"] == "temperature"
    assert made.id in [batch.id async for batch in client.batches.list(limit=1)]


@pytest.mark.parametrize(
    ("lines", "message", "number"),
    [
        ([], "the file has no lines", None),
        (["{}\n"], "not an object with custom_id", 1),
        ([line("a", "5"), "no json\n"], "not an object with custom_id", 2),
        ([line("a", "5"), line("a", "6")], "custom_id a is given twice", 2),
        ([{**line("a", "5"), "url": "/v1/embeddings"}], "url: not /v1/chat/completions", 1),
    ],
)
async def test_a_file_that_is_no_batch_fails_as_a_whole(
    batching: Gateway, lines: list[Any], message: str, number: int | None
) -> None:
    """Before any line is run, with the number of the line at fault."""
    client = batching.openai()
    ended = await finished(client, (await start(client, lines or [" "])).id)
    assert (ended.status, ended.output_file_id) == ("failed", None)
    assert ended.errors.data[0].message.startswith(message)
    assert ended.errors.data[0].line == number


async def test_a_cancelled_batch_keeps_what_has_finished(batching: Gateway) -> None:
    """The rest is in the error file."""
    client = batching.openai()
    slow = "|".join(["~Slow. "] * 20)
    made = await start(client, [line("quick", "5"), line("slow", slow)])

    async def has_one() -> bool:
        counts = (await client.batches.retrieve(made.id)).request_counts
        return counts is not None and counts.completed == 1

    await wait_until(has_one, "a line has finished")
    assert (await client.batches.cancel(made.id)).status == "cancelling"
    ended = await finished(client, made.id)
    assert ended.status == "cancelled"
    assert list(await read(client, ended.output_file_id)) == ["quick"]
    errors = await read(client, ended.error_file_id)
    assert errors["slow"]["error"]["code"] == "batch_cancelled"
    with pytest.raises(openai.ConflictError):
        await client.batches.cancel(made.id)


async def test_an_expired_batch_says_which_lines_were_not_run(batching: Gateway, models: Models) -> None:
    """Its window is made to end while a line runs."""
    client = batching.openai()
    made = await start(client, [line("quick", "5"), line("slow", "|".join(["~Slow. "] * 20))])
    async with open_store(models.redis_url, "test") as store:

        async def is_shortened() -> bool:
            document = json.loads(await store.batches.load("default", made.id) or "{}")
            if document["status"] != "in_progress" or document["counts"]["completed"] < 1:
                return False
            await asyncio.sleep(0)
            return True

        await wait_until(is_shortened, "a line has finished")
    os.kill(batching.process.pid, signal.SIGKILL)  # its successor reads the shortened window
    async with open_store(models.redis_url, "test") as store:
        document = json.loads(await store.batches.load("default", made.id) or "{}")
        document["expires_at"] = int(time.time())
        await store.batches.save("default", made.id, json.dumps(document), 3600, made.created_at)
    await _is_back(batching)
    ended = await finished(client, made.id)
    assert ended.status == "expired"
    assert list(await read(client, ended.output_file_id)) == ["quick"]
    assert (await read(client, ended.error_file_id))["slow"]["error"]["code"] == "batch_expired"


async def test_a_gateway_that_is_killed_goes_on_and_runs_no_line_twice(batching: Gateway) -> None:
    """Kill -9 in the middle of 40 lines: each has one answer, and the draft was asked for each once."""
    client = batching.openai()
    mark = secrets.token_hex(4)
    lines = [line(f"line-{number}", f"~{mark}-{number}") for number in range(40)]
    made = await start(client, lines)

    async def has_some() -> bool:
        return (await client.batches.retrieve(made.id)).status == "in_progress"

    await wait_until(has_some, "the batch runs")
    os.kill(batching.process.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    await _is_back(batching)
    ended = await finished(client, made.id)
    output = await read(client, ended.output_file_id)
    assert list(output) == [f"line-{number}" for number in range(40)]
    texts = {name: each["response"]["body"]["choices"][0]["message"]["content"] for name, each in output.items()}
    assert texts == {f"line-{number}": f"{mark}-{number}" for number in range(40)}
    assert {count for said, count in Scripted.asked.items() if mark in said} == {1}


async def _is_back(gateway: Gateway) -> None:
    async def answers() -> bool:
        try:
            async with gateway.http() as http:
                return (await http.get("/ready")).status_code == 200
        except OSError:
            return False
        except Exception as error:
            if type(error).__name__ in {"ConnectError", "ReadError", "RemoteProtocolError"}:
                return False
            raise

    await wait_until(answers, "the gateway is back")


async def test_files_can_be_listed_read_and_deleted(batching: Gateway, tmp_path: Path) -> None:
    """As OpenAI's client does it, in pages."""
    client = batching.openai()
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(line("a", "5")))
    files = [await client.files.create(file=path, purpose="batch") for _ in range(3)]
    assert (files[0].filename, files[0].bytes, files[0].purpose) == ("lines.jsonl", path.stat().st_size, "batch")
    listed = [file.id async for file in client.files.list(limit=2)]
    assert {file.id for file in files} <= set(listed)
    assert (await client.files.content(files[0].id)).text == path.read_text()
    assert (await client.files.delete(files[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(files[0].id)
    with pytest.raises(openai.BadRequestError, match="purpose: not supported"):
        await client.files.create(file=path, purpose="assistants")


async def test_a_list_goes_on_where_its_reader_is(batching: Gateway) -> None:
    """In the order of creation, also within a second; and behind a file that its reader has deleted."""
    client = batching.openai()
    made = [(await client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch")).id for n in range(5)]
    assert [file.id async for file in client.files.list(limit=2)][:5] == made[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")][-5:] == made
    assert not {file.id async for file in client.files.list(purpose="batch_output")} & set(made)
    seen = []
    async for file in client.files.list(limit=2):
        if file.id in made:
            seen.append(file.id)
            await client.files.delete(file.id)
    assert seen == made[::-1]
    with pytest.raises(openai.NotFoundError, match="after: no file file-none"):
        await client.files.list(after="file-none")


async def test_a_file_that_is_to_expire_is_refused(batching: Gateway) -> None:
    """Nothing would delete it in time."""
    soon: Any = {"anchor": "created_at", "seconds": 3600}
    with pytest.raises(openai.BadRequestError, match=r"expires_after\[\w+\]: not supported; allowed: file, purpose"):
        await batching.openai().files.create(file=("a.jsonl", b"{}"), purpose="batch", expires_after=soon)


async def test_a_batch_of_responses(batching: Gateway) -> None:
    """Each line has a response, which is kept in the output file alone."""
    client = batching.openai()
    bodies: dict[str, dict[str, Any]] = {
        "right": {"instructions": "Be brief.", "input": "One. |Two."},
        "stored": {"input": "5", "store": True},
        "background": {"input": "5", "background": True},
        "two": {"input": "5", "n": 2},
    }
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/responses", "body": {"model": "gsi", "gsi_n": 1, **body}}
        for name, body in bodies.items()
    ]
    source = "".join(json.dumps(each) + "\n" for each in lines).encode()
    file = await client.files.create(file=("lines.jsonl", source), purpose="batch")
    made = await client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    ended = await finished(client, made.id)
    answer = (await read(client, ended.output_file_id))["right"]["response"]["body"]
    assert answer["output"][0]["content"][0]["text"] == "One. Two."
    assert (answer["object"], answer["status"], answer["store"]) == ("response", "completed", False)
    assert answer["instructions"] == "Be brief."
    assert answer["usage"]["output_tokens"] == len("One. Two.") + 2
    errors = await read(client, ended.error_file_id)
    params = {name: each["response"]["body"]["error"]["param"] for name, each in errors.items()}
    assert params == {"stored": "store", "background": "background", "two": "n"}
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(answer["id"])


async def test_a_batch_whose_input_is_gone_has_failed(batching: Gateway, folder: Path) -> None:
    """It says so, and is not tried for ever; whoever reads the file is told, too."""
    client = batching.openai()
    file = await client.files.create(file=("a.jsonl", json.dumps(line("a", "5")).encode()), purpose="batch")
    (path,) = folder.rglob(file.id)
    path.unlink()
    made = await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    ended = await finished(client, made.id)
    assert ended.status == "failed"
    assert ended.errors.data[0].message == f"id: the bytes of file {file.id} are gone"
    with pytest.raises(openai.NotFoundError, match="the bytes of file"):
        await client.files.content(file.id)


async def test_a_place_for_files_that_cannot_be_used_is_named(models: Models, tmp_path: Path) -> None:
    """In the gateway's log; the client is told to come back."""
    (tmp_path / "file").write_text("no folder")
    async with models.gateway("no-place", {"GSI_GATEWAY_FILES": str(tmp_path / "file")}) as gateway:
        with pytest.raises(openai.InternalServerError) as raised:
            await gateway.openai().files.create(file=("a.jsonl", b"{}"), purpose="batch")
        assert (raised.value.status_code, raised.value.code) == (503, "files_unavailable")
        assert raised.value.response.headers["retry-after"] == "5"
        assert [said["reason"] for said in gateway.logged("the place of the files cannot be used")]


@pytest_asyncio.fixture(loop_scope="session")
async def own_models(tmp_path: Path) -> AsyncIterator[Models]:
    """Models and a Redis for one test: gateways of one Redis share a place for files."""
    with embedded_redis() as url:
        async with scripted_models(tmp_path, url, "own") as running:
            yield running


async def test_a_batch_waits_for_the_place_of_its_files(own_models: Models, tmp_path: Path) -> None:
    """It goes on when the place can be used again."""
    place, aside = tmp_path / "place", tmp_path / "aside"
    async with own_models.gateway("waits", {"GSI_GATEWAY_FILES": str(place)}) as gateway:
        client = gateway.openai()
        file = await client.files.create(file=("a.jsonl", json.dumps(line("a", "5")).encode()), purpose="batch")
        place.rename(aside)
        place.write_text("no folder")
        made = await client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")

        async def is_interrupted() -> bool:
            return bool(gateway.logged("a batch is interrupted; it goes on later"))

        await wait_until(is_interrupted, "the batch is interrupted")
        assert (await client.batches.retrieve(made.id)).status == "validating"
        place.unlink()
        aside.rename(place)
        assert (await finished(client, made.id)).status == "completed"


async def test_without_a_place_for_files_there_are_none(gateway: Gateway) -> None:
    """And the error names the setting."""
    with pytest.raises(openai.InternalServerError, match="GSI_GATEWAY_FILES"):
        await gateway.openai().batches.retrieve("batch_1")


async def test_no_route_leads_to_files_or_batches_of_another_tenant(models: Models, folder: Path) -> None:
    """Each is tried with a foreign key."""
    async with open_api_keys(models.redis_url) as keys:
        own, _ = await keys.create("own", tenant="..")
        foreign, _ = await keys.create("foreign", tenant="foreign")
    settings = {"GSI_GATEWAY_KEYS": "true", "GSI_GATEWAY_FILES": str(folder)}
    async with models.gateway("tenants", settings) as gateway:
        batch = await start(gateway.openai(own), [line("a", "5")])
        ended = await finished(gateway.openai(own), batch.id)
        client = gateway.openai(foreign)
        for file_id in (batch.input_file_id, ended.output_file_id):
            for attempt in (
                client.files.retrieve(file_id),
                client.files.content(file_id),
                client.files.delete(file_id),
                client.batches.create(input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h"),
            ):
                with pytest.raises(openai.NotFoundError):
                    await attempt
        for attempt in (client.batches.retrieve(batch.id), client.batches.cancel(batch.id)):
            with pytest.raises(openai.NotFoundError):
                await attempt
        assert [file async for file in client.files.list()] == []
        assert [each async for each in client.batches.list()] == []
        assert (await read(gateway.openai(own), ended.output_file_id))["a"]["response"]["status_code"] == 200
    names = {batch.input_file_id, ended.output_file_id}
    stored = [path for path in folder.parent.rglob("file-*") if path.name in names]
    assert {path.parent.parent for path in stored} == {folder}


async def test_a_batch_waits_for_room_in_the_queue(batching: Gateway) -> None:
    """A full queue refuses its lines for a while, and none is lost."""
    client = batching.openai()
    await batching.jobs.admin.limit(1)
    try:
        made = await start(client, [line(f"line-{number}", f"~Number {number}.") for number in range(3)])
        ended = await finished(client, made.id)
    finally:
        await batching.jobs.admin.limit(None)
    assert (ended.status, ended.request_counts.completed) == ("completed", 3)
