"""The client of ``make bench-gateway`` gets what an ordinary client gets, over one connection."""

from typing import Any

import pytest

from benchmarks.http_load import AnswerError, Connection, write_request
from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/v1/chat/completions"


def body_of(text: str, **others: Any) -> dict[str, Any]:
    return {"model": "gsi", "messages": [{"role": "user", "content": text}], "gsi_n": 1, **others}


async def test_answers_streams_and_errors_share_a_connection(gateway: Gateway, models: Models) -> None:
    """An event has the time at which it came, which is not before its step was kept."""
    async with Connection.to(gateway.url) as connection:
        answer = await connection.ask(write_request(gateway.url, PATH, body_of("5")))
        assert b'"content":"5"' in answer
        request = write_request(gateway.url, PATH, body_of("One. |~Two.", stream=True))
        arrivals = [arrival async for arrival in connection.stream(request)]
        with pytest.raises(AnswerError, match=r"404 Not Found: .*no model none"):
            await connection.ask(write_request(gateway.url, PATH, body_of("5", model="none")))
        assert b'"content":"6"' in await connection.ask(write_request(gateway.url, PATH, body_of("6")))
    texts = {arrival.event["choices"][0]["delta"].get("content"): arrival.at_ms for arrival in arrivals}
    assert [text for text in texts if text] == ["One. ", "Two."]
    job_id = f"{arrivals[0].event['id'].removeprefix('chatcmpl-')}-0"
    redis: Any = connect(models.redis_url)
    kept_ms = [int(entry.split(b"-")[0]) for entry, _ in await redis.xrange(Keys(models.queue).steps(job_id))]
    await redis.aclose()
    assert [texts["One. "] >= kept_ms[0], texts["Two."] >= kept_ms[1]] == [True, True]
    assert texts["Two."] - texts["One. "] > 300
