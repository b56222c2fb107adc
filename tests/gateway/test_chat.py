"""Chat completions by OpenAI's own client: whole and as a stream, one and several, refused in its form."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any

import openai
import pytest
from openai import OpenAI

from gsi.jobs.state import JobState
from tests.conftest import wait_until
from tests.gateway.system import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = ["First, 2 + 3 is 5.\n\n", "So the answer is 5."]
QUESTION: list[Any] = [{"role": "user", "content": "|".join(STEPS)}]
FEW: dict[str, Any] = {"gsi": {"n": 2}}


async def test_an_answer_is_the_steps_with_the_tokens_of_all_roles(gateway: Gateway) -> None:
    """Each step has two candidates of the draft, which the PRM rates."""
    answer = await gateway.openai().chat.completions.create(model="gsi", messages=QUESTION, extra_body=FEW)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "".join(STEPS), "stop")
    written = sum(len(step) + 1 for step in STEPS)
    usage: Any = answer.usage
    assert (usage.completion_tokens, usage.total_tokens) == (written, usage.prompt_tokens + written)
    assert usage.prompt_tokens == len(f"user: {QUESTION[0]['content']}") + 1
    assert usage.gsi == {"draft_tokens": 2 * written, "target_tokens": 0, "prm_tokens": 2 * written}


async def test_whole_responses_are_rated_once_and_all_their_tokens_count(gateway: Gateway) -> None:
    """The PRM reads a response when it ends: a step before has no reward, and yet every token is counted."""
    params = {"method": "best-of-n:responses", "n": 2, "steps": True}
    answer = await gateway.openai().chat.completions.create(model="gsi", messages=QUESTION, extra_body={"gsi": params})
    written = sum(len(step) + 1 for step in STEPS)
    usage, told = (getattr(answer, name) for name in ("usage", "gsi"))
    assert usage.gsi == {"draft_tokens": 2 * written, "target_tokens": 0, "prm_tokens": 2 * written}
    first, last = told["jobs"][0]["steps"]
    assert (first["reward"], first["prm_tokens"], last["prm_tokens"]) == (None, 0, 2 * written)
    assert last["reward"] is not None


async def test_a_conversation_reaches_the_models(gateway: Gateway) -> None:
    """Every turn, with OpenAI's newer name of the system's role, and a content in parts."""
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": "5"},
        {"role": "user", "content": [{"type": "text", "text": "re"}, {"type": "text", "text": "peat"}]},
    ]
    answer = await gateway.openai().chat.completions.create(model="gsi", messages=messages, extra_body=FEW)
    said = "system: Be brief.\nuser: 2 + 3?\nassistant: 5\nuser: repeat"
    assert answer.choices[0].message.content == said


async def test_a_stream_has_a_chunk_for_each_step_as_it_is_kept(gateway: Gateway) -> None:
    """The first step is there long before the slow second one."""
    question: list[Any] = [{"role": "user", "content": "One. |~Two. |Three."}]
    clock = asyncio.get_running_loop().time
    stream = await gateway.openai().chat.completions.create(
        model="gsi", messages=question, stream=True, stream_options={"include_usage": True}, extra_body=FEW
    )
    chunks = [(clock(), chunk) async for chunk in stream]
    texts = [
        (at, chunk.choices[0].delta.content) for at, chunk in chunks if chunk.choices and chunk.choices[0].delta.content
    ]
    assert [text for _, text in texts] == ["One. ", "Two. ", "Three."]
    assert texts[1][0] - texts[0][0] > 0.05  # together at the end they would be there within milliseconds
    assert [chunk.choices[0].finish_reason for _, chunk in chunks if chunk.choices][-1] == "stop"
    usage: Any = chunks[-1][1].usage
    assert not chunks[-1][1].choices
    assert usage.completion_tokens == len("One. Two. Three.") + 3


async def test_a_silent_stream_has_heartbeats_and_an_end(gateway: Gateway) -> None:
    """Comments, which clients skip, so that no proxy takes the connection for dead."""
    body = {"model": "gsi", "stream": True, "messages": [{"role": "user", "content": "~Slow."}], "gsi_n": 1}
    async with gateway.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line async for line in answer.aiter_lines()]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ": heartbeat" in lines
    assert [line for line in lines if line][-1] == "data: [DONE]"


async def test_choices_are_jobs_of_their_own(gateway: Gateway) -> None:
    """With seeds that differ, whole and as a stream."""
    client = gateway.openai()
    answer: Any = await client.chat.completions.create(model="gsi", messages=QUESTION, n=3, seed=5, extra_body=FEW)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [job["seed"] for job in answer.gsi["jobs"]] == [5, 6, 7]
    stream = await client.chat.completions.create(model="gsi", messages=QUESTION, n=2, stream=True, extra_body=FEW)
    texts = ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["".join(STEPS)] * 2


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_ends_before_a_stop_text(gateway: Gateway, is_stream: bool) -> None:
    """Also if it stands in two steps, of which the first is sent already."""
    question: list[Any] = [{"role": "user", "content": "The answer is 5. E|ND of it|And on."}]
    arguments: dict[str, Any] = {"model": "gsi", "messages": question, "stop": ["END", "###"], "extra_body": FEW}
    client = gateway.openai()
    if is_stream:
        chunks = [chunk async for chunk in await client.chat.completions.create(**arguments, stream=True)]
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        (choice,) = (await client.chat.completions.create(**arguments)).choices
        content, reason = choice.message.content or "", choice.finish_reason
    assert (content, reason) == ("The answer is 5. ", "stop")


async def test_an_answer_that_is_too_long_ends_for_its_length(gateway: Gateway) -> None:
    """By steps here; OpenAI's word is the same for tokens."""
    answer = await gateway.openai().chat.completions.create(
        model="gsi", messages=[{"role": "user", "content": "One. |Two."}], extra_body={"gsi_n": 1, "gsi_max_steps": 1}
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("One. ", "length")


async def test_steps_come_with_their_rewards_on_request(gateway: Gateway) -> None:
    """As the step stream has them, by docs/step.schema.json."""
    answer: Any = await gateway.openai().chat.completions.create(
        model="gsi", messages=QUESTION, extra_body={"gsi": {"n": 2, "steps": True}}
    )
    steps = answer.gsi["jobs"][0]["steps"]
    assert [step["text"] for step in steps] == STEPS
    assert [step["reward"] for step in steps] == [0.9, 0.9]


@pytest.mark.parametrize("method", ["spec-reason", "conf-spec:verdict"])
async def test_a_request_may_be_judged_by_the_language_models(gateway: Gateway, method: str) -> None:
    """Its steps come with what was said of them, and without rewards."""
    answer: Any = await gateway.openai().chat.completions.create(
        model="gsi", messages=QUESTION, extra_body={"gsi": {"method": method, "steps": True}}
    )
    steps = answer.gsi["jobs"][0]["steps"]
    assert [step["text"] for step in steps] == STEPS
    assert [step["reward"] for step in steps] == [None, None]
    (judgement,) = steps[0]["judgements"]
    assert (judgement["source"], judgement["score"]) == (("target", 9) if method == "spec-reason" else ("draft", 1))


async def test_temperature_0_is_a_repeatable_answer(gateway: Gateway) -> None:
    """A method that compares likelihoods keeps its temperature and gets a seed; the target alone is greedy."""
    client = gateway.openai()
    both: list[Any] = [
        await client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
        for model in ("gsi", "gsi:target")
    ]
    told = [(job["method"], job["temperature"], job["seed"]) for answer in both for job in answer.gsi["jobs"]]
    assert told[0] == ("gsi", 0.7, 0)
    assert told[1][:2] == ("target", 0.0)


async def test_a_client_that_goes_away_cancels_its_job(gateway: Gateway) -> None:
    """Whether it waited for a stream or for a whole answer; a job that is kept goes on."""
    slow = "|".join(["~Slow. "] * 20)
    for number, extra in enumerate(({"stream": True}, {}, {"gsi_keep": True})):
        body = {"model": "gsi", "messages": [{"role": "user", "content": slow}], "gsi_n": 1, **extra}
        await _leave_early(gateway, body, f"left-{number}")
        await wait_until(partial(_has_ended, gateway, f"left-{number}"), "the request has ended")
        job_id = f"{_requests(gateway, f'left-{number}')[0]}-0"
        if "gsi_keep" in extra:
            await asyncio.sleep(1)
            assert (await gateway.jobs.result(job_id)).state is JobState.RUNNING
            await gateway.jobs.cancel(job_id, "the test is over")
        assert (await gateway.jobs.wait(job_id, 10)).state is JobState.CANCELLED


async def _leave_early(gateway: Gateway, body: dict[str, Any], mark: str) -> None:
    """Ask, and close the connection after a second."""
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(1),
            gateway.http() as http,
            http.stream("POST", "/v1/chat/completions", json=body, headers={"x-request-id": mark}) as answer,
        ):
            await answer.aread()


def _requests(gateway: Gateway, mark: str) -> list[str]:
    """Return the ids of the requests that have ended, and that a client called so."""
    return [said["request"] for said in gateway.logged("request") if said.get("client_request") == mark]


async def _has_ended(gateway: Gateway, mark: str) -> bool:
    return bool(_requests(gateway, mark))


@pytest.mark.parametrize(
    ("arguments", "param", "message"),
    [
        ({"temperature": -1}, "temperature", "temperature: -1.0 is not allowed; allowed: a number from 0 to 10"),
        ({"top_p": 2}, "top_p", "top_p: 2.0 is not allowed; allowed: a number above 0, at most 1"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: 0 is not allowed; allowed: a whole number from 1"),
        (
            {"max_completion_tokens": 5, "max_tokens": 6},
            "max_tokens",
            "max_tokens: max_completion_tokens says otherwise",
        ),
        ({"n": 17}, "n", "n: input should be less than or equal to 16"),
        ({"stop": [""]}, "stop.0", 'stop.0: "" is not allowed'),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "tools: not supported"),
        ({"logprobs": True}, "logprobs", "logprobs: not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format: not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "frequency_penalty: not supported"),
        ({"extra_body": {"gsi_beta": 0}}, "gsi.beta", "gsi.beta: 0 is not allowed; allowed: a number from 0.000001"),
        ({"extra_body": {"gsi": {"bta": 1}}}, "gsi.bta", "gsi.bta: unknown; did you mean beta?"),
        ({"extra_body": {"gsi_n": 1, "gsi": {"n": 2}}}, "gsi_n", "gsi_n: gsi.n says otherwise"),
        ({"extra_body": {"temprature": 1}}, "temprature", "temprature: unknown; GSI's own options"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            'messages[0].content[0].type: "image_url" is not supported; allowed: text',
        ),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id", "messages"),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            "messages[0].role",
            "messages[0].role: the last message",
        ),
        ({"messages": [{"role": "user", "content": "unreadable"}]}, None, "messages do not fit"),
    ],
)
async def test_what_is_not_served_is_refused_by_its_name(
    gateway: Gateway, arguments: dict[str, Any], param: str | None, message: str
) -> None:
    """In OpenAI's form, so that its client raises its own error."""
    given = {"model": "gsi", "messages": QUESTION, **arguments}
    with pytest.raises(openai.BadRequestError) as raised:
        await gateway.openai().chat.completions.create(**given)
    assert raised.value.param == param
    body: Any = raised.value.body
    assert body["message"].startswith(message)


async def test_what_asks_for_nothing_is_taken(gateway: Gateway) -> None:
    """Clients send such values with every request."""
    answer = await gateway.openai().chat.completions.create(
        model="gsi",
        messages=QUESTION,
        logprobs=False,
        frequency_penalty=0,
        presence_penalty=0,
        user="someone",
        metadata={"run": "1"},
        response_format={"type": "text"},
        extra_body={"tools": None, "gsi_n": 1},
    )
    assert answer.choices[0].message.content == "".join(STEPS)


async def test_a_job_that_fails_in_a_stream_is_an_error_of_the_client(gateway: Gateway) -> None:
    """The stream has begun, so the error is an event of it."""
    with pytest.raises(openai.APIError, match="messages do not fit the model's chat template"):
        async for _ in await gateway.openai().chat.completions.create(
            model="gsi", messages=[{"role": "user", "content": "unreadable"}], stream=True
        ):
            pass


async def test_an_unknown_model_is_not_found(gateway: Gateway) -> None:
    """And the error lists those that are."""
    with pytest.raises(openai.NotFoundError, match="model: no model gpt-x; allowed: gsi, gsi:no-rejection"):
        await gateway.openai().chat.completions.create(model="gpt-x", messages=QUESTION)


async def test_a_repeated_request_gets_the_answer_of_the_first(gateway: Gateway) -> None:
    """By the header Idempotency-Key: one job, which has finished before the second request."""
    client = gateway.openai()
    both: list[Any] = [
        await client.chat.completions.create(
            model="gsi", messages=QUESTION, extra_headers={"Idempotency-Key": "once"}, extra_body=FEW
        )
        for _ in range(2)
    ]
    assert both[0].gsi["jobs"][0]["id"] == both[1].gsi["jobs"][0]["id"]
    assert both[1].choices[0].message.content == "".join(STEPS)


async def test_a_hundred_streams_at_once_each_get_their_own_answer(gateway: Gateway) -> None:
    """One connection to Redis follows all their jobs."""

    async def read(number: int) -> str:
        messages: list[Any] = [{"role": "user", "content": f"Stream |{number} |ends."}]
        stream = await gateway.openai().chat.completions.create(
            model="gsi", messages=messages, stream=True, extra_body={"gsi_n": 1}
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*map(read, range(100)))
    assert answers == [f"Stream {number} ends." for number in range(100)]


async def test_the_synchronous_client_works_too(gateway: Gateway) -> None:
    """Whole, and as a stream."""

    def ask() -> tuple[str | None, str]:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="gsi", messages=QUESTION, extra_body=FEW)
            stream = client.chat.completions.create(model="gsi", messages=QUESTION, extra_body=FEW, stream=True)
            return whole.choices[0].message.content, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert await asyncio.to_thread(ask) == ("".join(STEPS), "".join(STEPS))


async def test_completions_answer_prompts(gateway: Gateway) -> None:
    """The older route: a list of prompts, an answer to each, and a stream."""
    client = gateway.openai()
    answer = await client.completions.create(model="gsi", prompt=["One.", "Two."], extra_body=FEW)
    assert [choice.text for choice in answer.choices] == ["One.", "Two."]
    stream = await client.completions.create(model="gsi", prompt="One. |Two.", stream=True, extra_body=FEW)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "One. Two."
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_models_are_the_presets(gateway: Gateway) -> None:
    """As OpenAI's client lists them."""
    names = [model.id async for model in gateway.openai().models.list()]
    assert names[:3] == ["gsi", "gsi:no-rejection", "gsi:rsd"]
    assert (await gateway.openai().models.retrieve("gsi:rsd")).id == "gsi:rsd"


async def test_every_answer_has_a_request_id_which_leads_to_its_jobs(gateway: Gateway) -> None:
    """The id of a job begins with that of its request, which the gateway's log has, too."""
    body = {"model": "gsi", "messages": QUESTION, "gsi_n": 1}
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-7"})
    request_id = answer.headers["x-request-id"]
    assert json.loads(answer.content)["gsi"]["jobs"][0]["id"] == f"{request_id}-0"

    async def is_logged() -> bool:
        logged = [said for said in gateway.logged("request") if said["request"] == request_id]
        return [(said["client_request"], said["status"]) for said in logged] == [("mine-7", 200)]

    await wait_until(is_logged, "the request is logged")
