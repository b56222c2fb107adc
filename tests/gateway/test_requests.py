"""Headers, presets and files of presets, without a server."""

from pathlib import Path
from typing import Any

import pytest
from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from starlette.datastructures import Headers

from gsi.errors import MisconfiguredError
from services.gateway.__main__ import listen
from services.gateway.errors import ApiError, name_in_request
from services.gateway.headers import read_idempotency_key, read_traceparent
from services.gateway.presets import BUILT_IN, load_presets
from services.gateway.requests import (
    IGNORED,
    NEUTRAL,
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    ResponseRequest,
    check_extra,
    read_input,
    read_messages,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"01-{TRACE}-{SPAN}-01", False),
        ("nonsense", False),
    ],
)
def test_a_trace_context_that_is_none_is_ignored(given: str, is_taken: bool) -> None:
    """As W3C's standard says; a job would refuse it."""
    assert read_traceparent(Headers({"traceparent": given})) == (given if is_taken else None)


def test_a_repeated_request_is_known_by_a_key_of_some_length() -> None:
    """A choice's number is added to it, and a job's key has a limit."""
    assert read_idempotency_key(Headers({})) is None
    assert read_idempotency_key(Headers({"Idempotency-Key": "once"})) == "once"
    with pytest.raises(ApiError, match="Idempotency-Key: 201 characters; allowed: 1 to 200"):
        read_idempotency_key(Headers({"Idempotency-Key": "x" * 201}))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("params.temperature", "temperature"),
        ("params.stop.0", "stop.0"),
        ("params.n", "gsi.n"),
        ("messages.2.role", "messages[2].role"),
        ("deadline_seconds", "deadline_seconds"),
    ],
)
def test_a_field_of_a_job_has_its_name_in_a_request(ours: str, theirs: str) -> None:
    """An error names what the client wrote."""
    assert name_in_request(ours) == theirs


def test_the_built_in_models_are_jobs_of_one_queue() -> None:
    """Their parameters are checked as a file's."""
    presets = load_presets(None, "mine")
    assert list(presets) == list(BUILT_IN)
    assert {preset.queue for preset in presets.values()} == {"mine"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "models: Field required"),
        ("[models]", "models: "),
        ('[models."a b"]', "models.a b: a name must match"),
        ("[models.a]\nqueue = 'x y'", "models.a: queue: "),
        ("[models.a]\nparams = { n = 0 }", "models.a: params.n: 0 is not allowed"),
        ("[models.a]\nprams = {}", "models.a: prams: "),
        ("no toml", "presets "),
    ],
)
def test_a_file_of_presets_that_is_wrong_stops_the_gateway(text: str, said: str, tmp_path: Path) -> None:
    """With the name of the file and of the model."""
    path = tmp_path / "presets.toml"
    path.write_text(text)
    with pytest.raises(MisconfiguredError) as raised:
        load_presets(path, "default")
    assert said in str(raised.value)


def test_connections_send_without_delay() -> None:
    """asyncio turns TCP_NODELAY on only for sockets that name their protocol; else an answer waits 40 ms."""
    with listen("127.0.0.1:0") as listening:
        assert listening.proto != 0


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (chat.CompletionCreateParamsBase, ChatCompletionRequest),
        (completions.CompletionCreateParamsBase, CompletionRequest),
        (responses.ResponseCreateParamsBase, ResponseRequest),
    ],
)
def test_every_field_of_openais_client_is_known(theirs: Any, ours: type[GenerationRequest]) -> None:
    """It is obeyed, asks for nothing, or is refused as not supported; none is called unknown."""
    assert set(theirs.__annotations__) <= set(ours.model_fields) | set(NEUTRAL) | IGNORED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning_effort", None),
        ("reasoning", {"effort": None, "summary": None}),
        ("reasoning", {"summary": "auto"}),
        ("include", ["reasoning.encrypted_content"]),
        ("text", {"format": {"type": "text"}, "verbosity": None}),
        ("text", {"verbosity": None}),
        ("response_format", {"type": "text"}),
        ("service_tier", "auto"),
        ("parallel_tool_calls", True),
        ("prompt_cache_options", {"ttl": "30m"}),
        ("tools", []),
    ],
)
def test_a_value_that_asks_for_nothing_is_taken(name: str, value: Any) -> None:
    """Clients write fields that nobody has set."""
    check_extra(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("reasoning", {"effort": "low"}), ("text", {"format": {"type": "json_object"}}), ("store", True)],
)
def test_a_value_that_asks_for_more_is_refused(name: str, value: Any) -> None:
    """Also in the same field."""
    with pytest.raises(ApiError, match=f"{name}: not supported by this server"):
        check_extra(name, value)


def test_an_answer_can_come_back_with_the_next_question() -> None:
    """As the client's object has it: with fields that are empty, and with reasoning, which is not part of a prompt."""
    fields: dict[str, Any] = {"refusal": None, "tool_calls": [], "provider_specific_fields": {"refusal": None}}
    answer = {"role": "assistant", "content": "5", "reasoning_content": "2 + 3 is 5", **fields}
    question = {"role": "user", "content": "And 6?"}
    messages = [{"role": "assistant", "content": "5"}, question]
    request = ChatCompletionRequest.model_validate({"model": "gsi", "messages": [answer, question]})
    assert read_messages(request.messages) == messages
    part = {"type": "output_text", "text": "5", "annotations": [], "logprobs": []}
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "2 + 3"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [part],
            "phase": None,
        },
        question,
    ]
    assert read_input(ResponseRequest.model_validate({"model": "gsi", "input": items})) == messages
    wrong = ChatCompletionRequest.model_validate({"model": "gsi", "messages": [{**question, "reasoning_content": "x"}]})
    with pytest.raises(ApiError, match=r"messages\[0\].reasoning_content: not supported"):
        read_messages(wrong.messages)
