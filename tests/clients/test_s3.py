"""Files in a bucket: a server that speaks S3, and gateways that know of no folder."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from gsi.local.embedded_redis import embedded_redis, free_port
from tests.clients.running import LIMIT_SECONDS, program, variables
from tests.conftest import wait_until
from tests.gateway.system import Models, scripted_models
from tests.gateway.test_batches import finished, line, read, start

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUCKET = "gsi-files"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Models]:
    """Models and a Redis of its own: gateways of one Redis share a place for files, and other tests have a folder."""
    with embedded_redis() as url:
        async with scripted_models(tmp_path_factory.mktemp("s3-models"), url, "s3") as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def s3_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """An S3 server with a bucket."""
    port, folder = free_port(), tmp_path_factory.mktemp("s3")
    url = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program("evaluation", "moto_server"), "--host", "127.0.0.1", "--port", str(port)),
            env=variables(folder, {}),
            stdout=log,
            stderr=log,
        )

    async def has_bucket() -> bool:
        assert process.returncode is None, (folder / "moto.log").read_text()
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.put(f"{url}/{BUCKET}")).status_code == 200
        return False

    try:
        await wait_until(has_bucket, "the S3 server has a bucket", LIMIT_SECONDS)
        yield url
    finally:
        process.terminate()
        await process.wait()


def settings(s3_url: str, place: str = f"s3://{BUCKET}/of/gsi") -> dict[str, str]:
    """What an operator sets: the place, and what every client of S3 knows."""
    return {
        "GSI_GATEWAY_FILES": place,
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


async def test_files_and_batches_lie_in_a_bucket(models: Models, s3_url: str) -> None:
    """Written by one gateway, and read by another at once."""
    async with (
        models.gateway("s3-one", settings(s3_url)) as one,
        models.gateway("s3-two", settings(s3_url)) as two,
    ):
        made = await start(one.openai(), [line("right", "One. |Two."), line("wrong", "5", n=99)])
        ended = await finished(two.openai(), made.id)
        assert (ended.status, ended.request_counts.completed, ended.request_counts.failed) == ("completed", 1, 1)
        for gateway in (one, two):
            output = await read(gateway.openai(), ended.output_file_id)
            assert output["right"]["response"]["body"]["choices"][0]["message"]["content"] == "One. Two."
            assert list(await read(gateway.openai(), ended.error_file_id)) == ["wrong"]
        sizes = {file.id: file.bytes async for file in two.openai().files.list()}
        content = (await one.openai().files.content(ended.output_file_id)).content
        assert sizes[ended.output_file_id] == len(content)
        names = await _names(s3_url)
        assert {name.rpartition("/")[2] for name in names} >= {made.input_file_id, ended.output_file_id}
        assert {name.rpartition("/")[0] for name in names} == {"of/gsi/tenant-default"}
        assert not [name for name in names if name.endswith(".part")]
        await two.openai().files.delete(made.input_file_id)
        with pytest.raises(openai.NotFoundError):
            await one.openai().files.content(made.input_file_id)
        assert not [name for name in await _names(s3_url) if name.endswith(made.input_file_id)]


async def test_a_large_file_comes_in_parts(models: Models, s3_url: str) -> None:
    """More than one part of S3's, without being held in memory; its bytes are the same."""
    source = b"".join(json.dumps(line(f"l{n}", "x" * 1000)).encode() + b"\n" for n in range(60_000))
    async with models.gateway("s3-large", settings(s3_url)) as gateway:
        file = await gateway.openai().files.create(file=("large.jsonl", source), purpose="batch")
        assert file.bytes == len(source) > 50 * 2**20
        assert (await gateway.openai().files.content(file.id)).content == source
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (peak,) = (int(each.split()[1]) for each in status.splitlines() if each.startswith("VmHWM"))
    assert peak < 400 * 1024  # kB


async def test_a_bucket_that_is_not_there_is_an_error_of_the_server(models: Models, s3_url: str) -> None:
    """Which says what the operator has to look at, and the gateway goes on answering."""
    async with models.gateway("s3-none", settings(s3_url, "s3://no-such-bucket/x")) as gateway:
        client = gateway.openai()
        with pytest.raises(openai.InternalServerError) as raised:
            await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        assert (raised.value.status_code, raised.value.code) == (503, "files_unavailable")
        answer: Any = await client.chat.completions.create(model="gsi", messages=[{"role": "user", "content": "5"}])
        assert answer.choices[0].message.content == "5"


async def _names(s3_url: str) -> list[str]:
    """Return the names of the objects in the bucket, by S3's own protocol."""
    async with httpx.AsyncClient(trust_env=False) as http:
        listed = (await http.get(f"{s3_url}/{BUCKET}?list-type=2")).text
    return [each.partition("</Key>")[0] for each in listed.split("<Key>")[1:]]
