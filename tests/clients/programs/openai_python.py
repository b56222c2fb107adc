"""What an application does with the openai package, of release 1, 2 or 3; prints what it got as one JSON object.

``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` lead to the gateway, ``SMALL_KEY`` is a key with limits.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

SLOW_ANSWER = "One. |~Two. |~Three."
FEW = {"gsi": {"n": 2}}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def ask(client: OpenAI) -> dict[str, Any]:
    """A conversation whose first answer goes back as the client holds it."""
    messages: list[Any] = [{"role": "developer", "content": "Be brief."}, *user("2 + 3 is |5.")]
    first = client.chat.completions.create(model="gsi", messages=messages, extra_body=FEW)
    messages += [first.choices[0].message, *user("repeat")]
    second = client.chat.completions.create(model="gsi", messages=messages, n=2, seed=7, stop=[], extra_body=FEW)
    assert first.usage is not None
    return {
        "first": first.choices[0].message.content,
        "finish_reason": first.choices[0].finish_reason,
        "usage": [first.usage.prompt_tokens, first.usage.completion_tokens, first.usage.total_tokens],
        "second": [choice.message.content for choice in second.choices],
        "header": bool(client.chat.completions.with_raw_response.create(model="gsi", messages=user("5")).request_id),
    }


def complete(client: OpenAI) -> list[str]:
    answer = client.completions.create(model="gsi:draft", prompt=["Two. |Three.", "Four."])
    return [choice.text for choice in answer.choices]


def stream(client: OpenAI) -> dict[str, Any]:
    """Each chunk with the second at which it came."""
    begun = client.chat.completions.create(
        model="gsi", messages=user(SLOW_ANSWER), stream=True, stream_options={"include_usage": True}, extra_body=FEW
    )
    chunks = [(time.monotonic(), chunk) for chunk in begun]
    texts = [(at, chunk.choices[0].delta.content) for at, chunk in chunks if chunk.choices]
    return {
        "texts": [text for _, text in texts if text],
        "seconds": [at - chunks[0][0] for at, text in texts if text],
        "usage": chunks[-1][1].to_dict()["usage"],
        "helper": read_by_helper(client),
    }


def read_by_helper(client: OpenAI) -> dict[str, Any]:
    """The package's own accumulation of a stream."""
    with client.chat.completions.stream(model="gsi", messages=user("One. |Two."), extra_body=FEW) as events:
        deltas = [event.delta for event in events if event.type == "content.delta" and event.delta]
        final = events.get_final_completion()
    return {"deltas": deltas, "content": final.choices[0].message.content, "reason": final.choices[0].finish_reason}


async def ask_together() -> dict[str, Any]:
    async with AsyncOpenAI() as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="gsi", messages=user(f"{n}. |Done.")) for n in range(8))
        )
        begun = await client.chat.completions.create(model="gsi", messages=user("One. |Two."), stream=True)
        texts = [chunk.choices[0].delta.content async for chunk in begun if chunk.choices]
        models = [model.id async for model in client.models.list()]
    return {
        "answers": [answer.choices[0].message.content for answer in answers],
        "texts": [text for text in texts if text],
        "models": models,
        "model": (await AsyncOpenAI().models.retrieve("gsi:no-rejection")).id,
    }


def respond(client: OpenAI) -> dict[str, Any]:
    """Responses: now, as a stream, in the background, cancelled and deleted."""
    now = client.responses.create(model="gsi", input="Five is |5.", instructions="Be brief.", extra_body=FEW)
    again: list[Any] = [*user("2 + 3?"), *now.output, *user("repeat")]
    with client.responses.stream(model="gsi", input="One. |~Two.", extra_body=FEW) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    kept = client.responses.create(model="gsi", input="One. |~Two.", background=True, extra_body=FEW)
    long = client.responses.create(model="gsi", input="~One. |" * 30, background=True, extra_body=FEW)
    cancelled = client.responses.cancel(long.id)
    client.responses.delete(now.id)
    return {
        "now": [now.status, now.output_text],
        "again": client.responses.create(model="gsi", input=again, extra_body=FEW).output_text,
        "kinds": kinds,
        "final": [final.status, final.output_text],
        "begun": kept.status,
        "kept": [wait_for(lambda: client.responses.retrieve(kept.id), "completed").output_text],
        "replayed": [event.type for event in client.responses.retrieve(kept.id, stream=True)],
        "cancelled": cancelled.status,
        "deleted": error_of(lambda: client.responses.retrieve(now.id)),
    }


def batch(client: OpenAI) -> dict[str, Any]:
    """Files and a batch of each endpoint."""
    bodies: dict[Any, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": user("One. |Two.")},
        "/v1/completions": {"prompt": "One. |Two."},
        "/v1/responses": {"input": "One. |Two."},
    }
    outputs, ids = {}, []
    for endpoint, body in bodies.items():
        line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "gsi", **body}}
        source = json.dumps(line).encode() + b"\n"
        file = client.files.create(file=("lines.jsonl", source), purpose="batch")
        ids.append(file.id)
        made = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        ended = wait_for(partial(client.batches.retrieve, made.id), "completed")
        outputs[endpoint] = json.loads(client.files.content(ended.output_file_id).read())
        assert client.files.content(file.id).read() == source
    listed = [file.id for file in client.files.list(limit=2, purpose="batch")]
    deleted = client.files.delete(ids[0])
    return {
        "outputs": outputs,
        "listed": [file_id for file_id in listed if file_id in ids] == ids[::-1],
        "oldest_first": [file_id for file_id in (f.id for f in client.files.list(order="asc")) if file_id in ids]
        == ids[1:],
        "batches": len({each.id for each in client.batches.list(limit=1)}) >= len(ids),
        "deleted": [deleted.deleted, error_of(lambda: client.files.content(ids[0]))],
    }


def fail(client: OpenAI) -> dict[str, Any]:
    """Each error as an application sees it."""
    tool: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    small = OpenAI(api_key=os.environ["SMALL_KEY"], max_retries=0)
    small.chat.completions.create(model="gsi:draft", messages=user("5"))
    create = client.chat.completions.create
    return {
        "key": error_of(OpenAI(api_key="wrong").models.list),
        "model": error_of(lambda: create(model="gpt", messages=user("5"))),
        "not allowed": error_of(lambda: small.chat.completions.create(model="gsi", messages=user("5"))),
        "tools": error_of(lambda: create(model="gsi", messages=user("5"), tools=[tool])),
        "rate": error_of(lambda: small.chat.completions.create(model="gsi:draft", messages=user("5"))),
        "stream": error_of(lambda: list(create(model="gsi", messages=user("unreadable"), stream=True))),
    }


def error_of(call: Callable[[], object]) -> list[Any]:
    """Return the class of an error, its code, its parameter, and whether it says when to come back."""
    try:
        call()
    except openai.APIError as error:
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        return [type(error).__name__, error.code, error.param, int(headers.get("retry-after", 0)) > 0]
    return []


def wait_for(retrieve: Callable[[], Any], status: str) -> Any:
    while (found := retrieve()).status != status:
        assert found.status in {"queued", "validating", "in_progress", "finalizing"}, found
        time.sleep(0.05)
    return found


def retry(client: OpenAI) -> dict[str, Any]:
    """A request that is refused for a while."""
    began = time.monotonic()
    answer = client.chat.completions.create(model="gsi", messages=user("5"))
    return {"seconds": time.monotonic() - began, "answer": answer.choices[0].message.content}


def ask_proxy(client: OpenAI) -> dict[str, Any]:
    """The same application behind a proxy, which has names of its own for the models."""
    create = client.chat.completions.create
    tool: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    answer: Any = create(model="guided", messages=user("One. |Two."), temperature=0, user="me", extra_body=FEW)
    chunks = [
        (time.monotonic(), chunk.choices[0].delta.content)
        for chunk in create(
            model="guided", messages=user(f"{SLOW_ANSWER}|~Four."), stream=True, stream_options={"include_usage": True}
        )
        if chunk.choices and chunk.choices[0].delta.content
    ]
    messages = [*user("2 + 3?"), answer.choices[0].message, *user("repeat")]
    response = client.responses.create(model="guided", input="One. |Two.")
    return {
        "answer": answer.choices[0].message.content,
        "again": create(model="guided", messages=messages).choices[0].message.content,
        "num_jobs": len(answer.gsi["jobs"]),
        "draft_tokens": answer.usage.gsi["draft_tokens"],
        "texts": [text for _, text in chunks],
        "seconds": chunks[-1][0] - chunks[0][0],
        "response": response.output_text,
        "models": sorted(model.id for model in client.models.list()),
        "errors": {
            "model": error_of(lambda: create(model="nothing", messages=user("5"))),
            "tools": error_of(lambda: create(model="guided", messages=user("5"), tools=[tool])),
        },
    }


def main() -> None:
    alone = {"retry": retry, "proxy": ask_proxy}
    with OpenAI(max_retries=2 if "retry" in sys.argv else 0) as client:
        if len(sys.argv) > 1:
            said = alone[sys.argv[1]](client)
        else:
            parts = {f.__name__: f for f in (ask, complete, stream, respond, batch, fail)}
            said = {name: part(client) for name, part in parts.items()}
            said |= {"ask_together": asyncio.run(ask_together()), "version": openai.__version__}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
