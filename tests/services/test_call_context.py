"""The context of a job in a call's metadata: it arrives as it was, and a stranger's metadata cannot harm a log."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars, clear_contextvars, merge_contextvars
from structlog.testing import capture_logs

from gsi.algorithm.candidates import Candidate
from gsi.algorithm.params import SamplingParams
from gsi.errors import InternalError
from gsi.rpc import call_context
from gsi.rpc.clients import DraftClient
from services.draft import servicer
from tests.conftest import wait_until
from tests.services.conftest import TIMEOUT_SECONDS, load_shipped, serving


@pytest.fixture(autouse=True)
def _no_job() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


@given(
    job=st.text(min_size=1, max_size=64).filter(str.isprintable), attempt=st.integers(1, 100), step=st.integers(0, 1000)
)
def test_a_job_s_fields_arrive_as_they_were(job: str, attempt: int, step: int) -> None:
    """The metadata is ASCII for every id, and an id of digits stays a text."""
    with bound_contextvars(job=job, attempt=attempt, step=step, role="x"):
        metadata = call_context.outgoing("00-trace")
    assert all(value.isascii() and value.isprintable() for _, value in metadata)
    fields, traceparent = call_context.incoming(metadata)
    assert (fields, traceparent) == ({"job": job, "attempt": attempt, "step": step}, "00-trace")


def test_a_call_for_no_job_carries_nothing() -> None:
    """Such a call asks which model a service has."""
    assert call_context.outgoing("") == ()
    assert call_context.incoming(None) == ({}, "")


def test_a_long_id_does_not_fill_a_call_s_headers() -> None:
    """gRPC refuses calls with several kilobytes of headers, and a bare XADD may give a job any id."""
    with bound_contextvars(job="é" * 100_000):
        assert sum(len(value) for _, value in call_context.outgoing("")) < 1024


@given(st.text(), st.text() | st.integers(0).map(str))
def test_what_a_stranger_sends_stays_one_short_line(job: str, step: str) -> None:
    """No line break, control character or long text gets into a log."""
    fields, _ = call_context.incoming([("gsi-job", job), ("gsi-step", step), ("gsi-job-bin", b"\xff"), ("other", "x")])
    assert set(fields) == {"job", "step"}
    assert all(str(value).isprintable() for value in fields.values())
    assert all(not isinstance(value, int) or value < 2**63 for value in fields.values()), "OTLP has no larger number"
    assert all(len(str(value)) < 12 * call_context.MAX_CHARACTERS for value in fields.values())


async def test_an_error_of_a_service_names_the_job_in_its_log() -> None:
    """The caller learns only that there was an error; the log has job, attempt and step."""

    async def load() -> Any:
        engine: Any = await load_shipped("draft")
        engine.propose = broken
        return engine

    def broken(*_: object) -> AsyncGenerator[Sequence[Candidate], None]:
        raise RuntimeError("broken")

    async with serving(servicer.SERVICE, servicer.add_to_server, load) as server:
        client = DraftClient(server.address, TIMEOUT_SECONDS)
        await wait_until(client.is_serving, "draft serves")
        with (
            capture_logs(processors=[merge_contextvars]) as events,
            bound_contextvars(job="mine-1", attempt=2, step=3),
            pytest.raises(InternalError),
        ):
            await anext(client.propose((1,), 1, SamplingParams(), 0))
        await client.close()
    (failed,) = [event for event in events if event["event"] == "rpc failed"]
    assert (failed["job"], failed["attempt"], failed["step"]) == ("mine-1", 2, 3)
