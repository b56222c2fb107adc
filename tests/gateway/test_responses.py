"""Responses by OpenAI's own client: at once, as a stream, in the background, cancelled, deleted, and never foreign."""

import asyncio
import time
from typing import Any

import openai
import pytest

from gsi.client.gateway import open_api_keys
from gsi.jobs.state import JobState
from tests.conftest import wait_until
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = ["First, 2 + 3 is 5.\n\n", "So it is 5."]
INPUT = "|".join(STEPS)
SLOW = "|".join(["~Slow. "] * 20)
ONE: dict[str, Any] = {"gsi_n": 1}


async def test_a_response_is_a_message_of_the_assistant(gateway: Gateway) -> None:
    """With instructions before it; it can be retrieved later."""
    client = gateway.openai()
    made = await client.responses.create(model="gsi", input=INPUT, metadata={"run": "7"}, extra_body=ONE)
    assert (made.status, made.output_text) == ("completed", "".join(STEPS))
    assert made.usage is not None
    assert made.usage.output_tokens == len(made.output_text) + 2
    found = await client.responses.retrieve(made.id)
    assert (found.output_text, found.metadata, found.model) == (made.output_text, {"run": "7"}, "gsi")
    turns: list[Any] = [
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "5"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "repeat"}]},
    ]
    said = await client.responses.create(model="gsi", input=turns, instructions="Be brief.", extra_body=ONE)
    assert said.output_text == "system: Be brief.\nuser: 2 + 3?\nassistant: 5\nuser: repeat"


async def test_a_stream_has_openais_events(gateway: Gateway) -> None:
    """Numbered from 0, with the same text in its parts and in its end; read again later, from any number on."""
    client = gateway.openai()
    stream = await client.responses.create(model="gsi", input=INPUT, stream=True, extra_body=ONE)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == STEPS
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "".join(STEPS)
    again = await client.responses.retrieve(events[-1].response.id, stream=True, starting_after=4)
    later = [event async for event in again]
    assert [event.to_dict() for event in later[:-1]] == [event.to_dict() for event in events[5:-1]]


async def test_a_response_in_the_background_goes_on_without_its_client(gateway: Gateway) -> None:
    """It is there at once, grows, and ends."""
    client = gateway.openai()
    made = await client.responses.create(model="gsi", input="One. |~Two. |~Three.", background=True, extra_body=ONE)
    assert (made.status, made.background) == ("queued", True)
    texts = set()

    async def has_ended() -> bool:
        found = await client.responses.retrieve(made.id)
        texts.add(found.output_text)
        return found.status == "completed"

    await wait_until(has_ended, "the response is completed")
    assert {"One. ", "One. Two. Three."} <= texts


async def test_a_response_can_be_cancelled_and_deleted(gateway: Gateway) -> None:
    """A deleted one is not found, and its job is gone from Redis."""
    client = gateway.openai()
    made: Any = await client.responses.create(model="gsi", input=SLOW, background=True, extra_body=ONE)
    await asyncio.sleep(0.2)
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    assert (await client.responses.retrieve(made.id)).status == "cancelled"
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    assert not await gateway.jobs.exists(made.gsi["job"])


async def test_an_answer_that_is_too_long_is_incomplete(gateway: Gateway) -> None:
    """And says why."""
    made = await gateway.openai().responses.create(
        model="gsi", input=INPUT, extra_body={"gsi_n": 1, "gsi_max_steps": 1}
    )
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"


async def test_a_job_that_fails_is_a_failed_response(gateway: Gateway) -> None:
    """Whole, and as the last event of a stream."""
    client = gateway.openai()
    made = await client.responses.create(model="gsi", input="unreadable")
    assert made.status == "failed"
    assert made.error is not None
    assert made.error.message.startswith("messages do not fit")
    events = [event async for event in await client.responses.create(model="gsi", input="unreadable", stream=True)]
    assert events[-1].type == "response.failed"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"background": True, "store": False}, "store"),
        ({"max_output_tokens": 0}, "max_tokens"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ],
)
async def test_what_is_not_served_is_refused_by_its_name(gateway: Gateway, arguments: Any, param: str) -> None:
    """As in chat completions."""
    with pytest.raises(openai.BadRequestError) as raised:
        await gateway.openai().responses.create(**{"model": "gsi", "input": "5", **arguments})
    assert raised.value.param == param


async def test_a_response_goes_on_from_an_earlier_one(gateway: Gateway) -> None:
    """With all that was said, by which text alone; instructions hold for their own response. A branch is allowed."""
    client = gateway.openai()
    first = await client.responses.create(model="gsi", input="<think>Two.|</think>5", instructions="A", extra_body=ONE)
    second: Any = await client.responses.create(
        model="gsi", input="8", previous_response_id=first.id, instructions="Be brief.", extra_body=ONE
    )
    assert (second.previous_response_id, second.output_text) == (first.id, "8")
    await client.responses.delete(first.id)  # what was said stays part of the later conversation
    third, fourth = [
        await client.responses.create(model="gsi", input=said, previous_response_id=second.id, extra_body=ONE)
        for said in ("repeat", "9")
    ]
    chain = "user: <think>Two.|</think>5\nassistant: 5\nuser: 8\nassistant: 8\nuser: repeat"
    assert (third.output_text, fourth.output_text) == (chain, "9")


async def test_a_stream_in_the_background_goes_on_from_an_incomplete_response(gateway: Gateway) -> None:
    """Its answer so far is part of what was said."""
    client = gateway.openai()
    cut = await client.responses.create(model="gsi", input=INPUT, extra_body={"gsi_n": 1, "gsi_max_steps": 1})
    assert cut.status == "incomplete"
    stream = await client.responses.create(
        model="gsi", input="repeat", previous_response_id=cut.id, background=True, stream=True, extra_body=ONE
    )
    last: Any = [event async for event in stream][-1]
    assert last.response.output_text == f"user: {INPUT}\nassistant: {STEPS[0]}\nuser: repeat"
    assert last.response.previous_response_id == cut.id


async def test_a_response_goes_on_only_from_an_answer_that_is_there(gateway: Gateway) -> None:
    """Neither from a failed, cancelled, unfinished, deleted, forgotten or unstored one, and the error says which."""
    client = gateway.openai()

    async def ask(text: str, **arguments: Any) -> Any:
        return await client.responses.create(model="gsi", input=text, extra_body=ONE, **arguments)

    failed, running, cancelled = [await ask(text, background=True) for text in ("unreadable", SLOW, SLOW)]
    deleted, forgotten, unstored = await ask("5"), await ask("5"), await ask("5", store=False)
    await client.responses.cancel(cancelled.id)
    await client.responses.delete(deleted.id)
    await gateway.jobs.forget(forgotten.gsi["job"])
    for earlier, code in (
        (failed, "not_completed"),
        (running, "not_completed"),
        (cancelled, "not_completed"),
        (deleted, "not_found"),
        (forgotten, "not_found"),
        (unstored, "not_found"),
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            await ask("8", previous_response_id=earlier.id)
        assert (raised.value.param, raised.value.code) == ("previous_response_id", f"previous_response_{code}")
    await client.responses.cancel(running.id)


async def test_a_conversation_has_a_limit(gateway: Gateway) -> None:
    """In messages, as a job has; the one that passes it is refused by its name."""
    client = gateway.openai()
    turns: Any = [{"role": "user", "content": "5"}] * 999
    long = await client.responses.create(model="gsi", input=turns, extra_body=ONE)
    assert long.output_text == "5"
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(model="gsi", input="5", previous_response_id=long.id, extra_body=ONE)
    assert raised.value.code == "conversation_too_long"


async def test_no_route_leads_to_a_response_of_another_tenant(models: Models) -> None:
    """Each is tried with a foreign key: not found, and the response stays as it is. So it is after a restart."""
    async with open_api_keys(models.redis_url) as keys:
        own, _ = await keys.create("own", tenant="own")
        foreign, _ = await keys.create("foreign", tenant="foreign")
    settings = {"GSI_GATEWAY_KEYS": "true"}
    async with models.gateway("first", settings) as gateway:
        made = await gateway.openai(own).responses.create(model="gsi", input="~Kept.", background=True, extra_body=ONE)
    async with models.gateway("second", settings) as gateway:
        responses = gateway.openai(foreign).responses
        for attempt in (
            responses.retrieve(made.id),
            responses.retrieve(made.id, stream=True),
            responses.cancel(made.id),
            responses.delete(made.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        with pytest.raises(openai.BadRequestError, match=f"no response {made.id}"):
            await responses.create(model="gsi", input="8", previous_response_id=made.id, extra_body=ONE)
        client = gateway.openai(own)

        async def has_ended() -> bool:
            return (await client.responses.retrieve(made.id)).status == "completed"

        await wait_until(has_ended, "the response is completed")
        assert (await client.responses.retrieve(made.id)).output_text == "Kept."


async def test_a_client_that_leaves_cancels_what_is_not_in_the_background(gateway: Gateway) -> None:
    """The job of a stream that nobody reads any more ends."""
    stream = await gateway.openai().responses.create(model="gsi", input=SLOW, stream=True, extra_body=ONE)
    first: Any = await anext(aiter(stream))
    await stream.close()
    job_id = first.response.gsi["job"]
    before = time.monotonic()
    assert (await gateway.jobs.wait(job_id, 10)).state is JobState.CANCELLED
    assert time.monotonic() - before < 5
