"""The trace context of a job: checked like every field, and read even if the rest of the payload is wrong."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.errors import InvalidRequestError
from gsi.jobs.connection import Redis
from gsi.jobs.job import Job, claim, parse_payload
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobReader
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobWriter

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # the example of the W3C's recommendation
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "job.schema.json").read_text())
PATTERN = SCHEMA["properties"]["traceparent"]["anyOf"][0]["pattern"]


def test_a_trace_context_is_taken_as_it_is() -> None:
    """A job without one has none."""
    assert parse_payload({"prompt": "x", "traceparent": GOOD}).traceparent == GOOD
    assert parse_payload({"prompt": "x"}).traceparent is None


@pytest.mark.parametrize(
    ("traceparent", "error"),
    [
        ("yes", f'traceparent: "yes" is not allowed; allowed: text that matches {PATTERN} or null'),
        (7, f"traceparent: 7 is not allowed; allowed: text that matches {PATTERN} or null"),
        (GOOD.upper(), f'traceparent: "{GOOD.upper()}" is not allowed; allowed: text that matches {PATTERN} or null'),
        (
            f"00-{'0' * 32}-{'1' * 16}-01",
            f"traceparent: 00-{'0' * 32}-{'1' * 16}-01 names no span; allowed: ids that are not all zeros",
        ),
    ],
)
def test_another_text_is_refused_with_what_is_allowed(traceparent: object, error: str) -> None:
    """The sentence names the field; ids of zeros name nothing."""
    with pytest.raises(InvalidRequestError) as refused:
        parse_payload({"prompt": "x", "traceparent": traceparent})
    assert str(refused.value) == error


@given(st.from_regex(re.compile(PATTERN, re.ASCII), fullmatch=True))
def test_the_schema_and_the_check_agree(traceparent: str) -> None:
    """The check refuses what the schema's pattern allows for one reason: ids of zeros."""
    _, trace_id, span_id, _ = traceparent.split("-")
    try:
        accepted = parse_payload({"prompt": "x", "traceparent": traceparent}).traceparent == traceparent
    except InvalidRequestError:
        accepted = False
    assert accepted == (int(trace_id, 16) > 0 and int(span_id, 16) > 0)


async def test_every_delivery_of_a_job_knows_when_it_was_submitted(redis: Redis, queue: str) -> None:
    """The trace's id is derived from that time, so each coordinator that takes the job must get the same time."""
    keys = Keys(queue)
    submitter, writer, reader = JobSubmitter(redis, keys), JobWriter(redis, keys), JobReader(redis, keys)
    stream = JobStream(redis, keys, "first")
    await stream.create_group()
    await submitter.submit(Job("a", parse_payload({"prompt": "x"})))
    (delivery,) = await stream.take_new(1, 100)
    first = await writer.take("a", delivery)
    assert first is not None
    await writer.hand_back(first, 1000)
    (delivery,) = await JobStream(redis, keys, "second").take_over(1, 1000)
    second = await writer.take("a", delivery)
    record = await reader.record("a")
    assert second is not None
    assert record is not None
    assert first.submitted_ms == second.submitted_ms == int(record.fields["submitted_at"])


def test_a_wrong_payload_is_in_the_trace_that_it_names() -> None:
    """The failure then shows in the trace of the submission; a wrong trace context is ignored."""
    assert claim(json.dumps({"traceparent": GOOD, "promt": "x"})).traceparent == GOOD
    assert claim(json.dumps({"traceparent": "00-x", "id": "a"})).traceparent is None
