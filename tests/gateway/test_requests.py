"""Headers, presets and files of presets, without a server."""

from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gsi.errors import MisconfiguredError
from services.gateway.__main__ import listen
from services.gateway.errors import ApiError, name_in_request
from services.gateway.headers import read_idempotency_key, read_traceparent
from services.gateway.presets import BUILT_IN, load_presets

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
