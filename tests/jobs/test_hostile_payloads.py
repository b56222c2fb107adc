"""Whatever stands in an entry becomes a job, or a refusal within its limits: nothing else, and at once."""

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import Redis
from gsi.jobs.job import claim, parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.keys import Keys
from gsi.jobs.payload import JobPayload
from gsi.jobs.stream import JobStream
from gsi.limits import (
    MAX_ERROR_BYTES,
    MAX_ERROR_FIELDS,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_TOKENS,
    MAX_SHORTHAND_CHARACTERS,
)

MEGABYTES_OF_KEYS = b"{" + b",".join(b'"k%d":1' % number for number in range(300_000)) + b"}"


def refusal_of(raw: bytes) -> str:
    """Return why an entry is refused; "" if it is not. Fails for anything else that may happen."""
    claimed = claim(raw)
    parsed, said = None, ""
    try:
        parsed = parse_payload(raw)
    except InvalidRequestError as error:
        said = str(error)
    assert (claimed.payload, claimed.refusal) == (parsed, said)
    assert (parsed is None) == (0 < len(said.encode()) <= MAX_ERROR_BYTES)
    return said


def params(given: Mapping[str, Any]) -> bytes:
    return json.dumps({"prompt": "x", "params": given}).encode()


# --- Anything at all ------------------------------------------------------------------------------------------------

names = st.one_of(st.text(max_size=40), st.sampled_from([*JobPayload.model_fields, *JobParams.model_fields, "name"]))
texts = st.one_of(
    st.text(),
    st.sampled_from(["gsi:n=", "rsd:binary=", "binary=", "linear=1/", "gsi:n=" + "[" * 990, "gsi:n=" + "9" * 990, "("]),
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**4000, -(10**300), 2**63, 1e308]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=6)),
    max_leaves=20,
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.one_of(st.just("x"), values),
        "params": st.one_of(values, st.dictionaries(names, values, max_size=8)),
        **{name: values for name in JobPayload.model_fields if name not in {"prompt", "params"}},
    },
)


@given(st.one_of(st.binary(max_size=400), st.one_of(values, payloads).map(lambda value: json.dumps(value).encode())))
@settings(max_examples=400, deadline=None)
@example(b'"\xed\xa0\x80"')  # half a surrogate pair, as UTF-8
@example(b'{"prompt":"\\ud800"}')
@example(b'{"prompt":"x","prompt":7,"prompt":"y"}')
@example(b'{"prompt":"x","params":{"n":1e999,"n":NaN}}')
@example(b'{"prompt":"x","params":{"method":"gsi:n=' + b"[" * 990 + b'"}}')
@example(b'{"prompt":"x","params":{"n":' + b"9" * 4000 + b"}}")
@example(b"[" * 900)
@example(b'{"a":' * 900 + b"1" + b"}" * 900)
@example(b'{"params":' * 150 + b"1" + b"}" * 150)
@example(b'{"' + b"x" * 100_000 + b'":1}')
@example(params({f"unknown{number}": number for number in range(300)}))
def test_an_entry_is_a_job_or_a_refusal_within_the_limits(raw: bytes) -> None:
    """Claiming never raises; parsing raises InvalidRequestError alone; both say the same."""
    refusal_of(raw)


@given(st.one_of(values, payloads))
@settings(max_examples=200, deadline=None)
def test_what_a_program_submits_is_a_job_or_a_refusal(value: Any) -> None:
    """As Python's values, with all that JSON cannot write."""
    said = ""
    try:
        parse_payload(value)
    except InvalidRequestError as error:
        said = str(error)
    assert len(said.encode()) <= MAX_ERROR_BYTES


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_thousands_of_unknown_names_are_refused_before_anything_is_built_of_them() -> None:
    """An error for each of them took twenty seconds, half a gigabyte, and a record of 90 MB."""
    raw = b'{"prompt":"x","params":' + MEGABYTES_OF_KEYS + b"}"
    assert len(raw) < MAX_PAYLOAD_BYTES
    tracemalloc.start()
    said = claim(raw).refusal
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said == f"job: too many names and values; allowed: at most {MAX_PAYLOAD_TOKENS}"
    assert peak < 100_000


def test_punctuation_in_a_prompt_is_not_counted() -> None:
    """A prompt may hold source code and JSON of any length."""
    prompt = '{"a": [1, "\\"", {}]}\n' * 10_000
    assert parse_payload({"prompt": prompt}).prompt == prompt


def test_an_error_names_the_first_fields_and_counts_the_others() -> None:
    """A person mends the first ones, and then sees the next."""
    said = refusal_of(params({"n": 0, "beta": -1, **{f"max_step{number}": 1 for number in range(400)}}))
    sentences = said.split("; did you mean max_steps?")
    assert sentences[0].startswith("params.n: 0 is not allowed")
    assert sum(said.count(f"params.{name}") for name in ("n:", "beta:", "max_step")) <= MAX_ERROR_FIELDS
    assert said.endswith(f"; … and {402 - MAX_ERROR_FIELDS} more")


def test_long_sentences_leave_room_for_the_count_of_the_others() -> None:
    """Two kilobytes hold some of them, whole, and the number of the rest."""
    said = refusal_of(params({"ü" * 50 + str(number): number for number in range(10)}))
    shown = said.count(": unknown; allowed: method,")
    assert 0 < shown < 10
    assert said.endswith(f"{list(JobParams.model_fields)[-1]}; … and {10 - shown} more")


def test_a_long_name_is_shown_by_its_beginning() -> None:
    """It is the client's text, of any length."""
    said = refusal_of(b'{"prompt":"x","' + b"k" * 1_000_000 + b'":1}')
    assert said.startswith(f"{'k' * 60}… (1000000 characters): unknown; allowed: v, id, prompt")


@pytest.mark.parametrize(
    ("field", "written"), [("method", "gsi" + ":n=4" * 1000), ("weighting", "binary=" + "1" * 1000)]
)
def test_shorthand_has_a_length(field: str, written: str) -> None:
    """Four megabytes of options took seconds."""
    said = refusal_of(params({field: written}))
    assert (
        said == f"params.{field}: shorthand of {len(written)} characters; allowed: at most {MAX_SHORTHAND_CHARACTERS}"
    )


def test_shorthand_that_is_nested_too_deeply_is_refused() -> None:
    """It ended every coordinator that read it."""
    said = refusal_of(params({"method": "gsi:n=" + "[" * 990}))
    assert said.startswith('params.n: "[[[')


def test_an_error_of_any_length_is_cut() -> None:
    """Also where a message quotes what the caller wrote."""
    said = str(InvalidRequestError("params.x: " + "ü" * 5000))
    assert len(said.encode()) <= MAX_ERROR_BYTES
    assert said.endswith("ü…")


def test_the_schema_is_built_once() -> None:
    """It takes ten milliseconds, and a refusal asked for it once a field."""
    refusal_of(params({"n": 0}))
    with patch.object(JobParams, "model_json_schema", side_effect=AssertionError("built again")):
        assert refusal_of(params({"n": 0, "beta": "?"})).startswith("params.n: 0 is not allowed")


# --- The entry's own field id ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["x:steps", "", "a b", "x" * 65, "x\n", "{q}", "ä"])
async def test_a_wrong_field_id_is_refused_under_the_id_of_the_entry(
    redis: Redis, keys: Keys, stream: JobStream, written: str
) -> None:
    """``x:steps`` would be the key of another job's steps. The payload's id is not used either."""
    await redis.xadd(keys.jobs, {"job": '{"prompt":"x","id":"mine","tenant":"ours"}', "id": written})
    (delivery,) = await stream.take_new(1, 50)
    claimed = claim(delivery.payload, delivery.refusal)
    assert (claimed.id, delivery.job_id, claimed.tenant) == (None, None, "ours")
    with pytest.raises(
        InvalidRequestError, match=r"^id: .* in the entry's field id is not allowed; allowed: text that"
    ):
        claimed.accepted()


@pytest.mark.parametrize("written", ["a-job_1", "1700000000000-0"])
async def test_a_field_id_names_the_job_of_a_payload_without_an_id(
    redis: Redis, keys: Keys, stream: JobStream, written: str
) -> None:
    """As the scripts write it when they push a job again: an id of the SDK, or of an entry."""
    await redis.xadd(keys.jobs, {"job": '{"prompt":"x"}', "id": written})
    (delivery,) = await stream.take_new(1, 50)
    assert (delivery.job_id, claim(delivery.payload, delivery.refusal).accepted().prompt) == (written, "x")
