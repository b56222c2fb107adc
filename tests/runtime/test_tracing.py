"""Spans: nothing without an endpoint, OpenTelemetry's with one; a job's ids; an unavailable collector."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from structlog.testing import capture_logs

from gsi.local.embedded_redis import free_port
from gsi.runtime import tracing as tracing_module
from gsi.runtime.settings import EXIT_BAD_SETTINGS
from gsi.runtime.tracing import NOTHING, JobTrace, Tracing, current_traceparent
from services.draft.settings import DraftSettings
from tests.collector import Collector, collector

JOB = JobTrace("mine-1", 1_700_000_000_000)
WITHOUT_EXTRA = "import sys; sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None"
GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def settings(endpoint: str | None) -> DraftSettings:
    return DraftSettings(listen="127.0.0.1:0", model="m", traces_endpoint=endpoint)


@pytest.fixture(autouse=True)
def _outside_of_any_run() -> Iterator[None]:
    token = tracing_module._current.set(None)
    yield
    tracing_module._current.reset(token)


async def traced(job: JobTrace, *, ratio: float = 1.0, attempts: int = 1) -> Collector:
    """Run a job of two steps in each attempt, an attempt in a process of its own, so to speak."""
    async with collector() as received:
        for attempt in range(1, attempts + 1):
            tracing = Tracing()
            tracing.start("coordinator", received.endpoint, ratio)
            with tracing.begin_run(job, attempt) as run:
                for index in (0, 1):
                    with tracing.begin_step(index) as step, tracing.begin_phase("draft") as draft:
                        draft.set(n=4, reward=0.5, nothing=None)
                        tracing.begin_serving("Propose", draft.traceparent).end()
                        step.set(outcome="accepted")
                if attempt == attempts:
                    run.end_job()
            await asyncio.to_thread(tracing.stop)
        return received


def test_without_the_extra_everything_works_and_every_span_is_empty() -> None:
    """A process in which neither SDK nor exporter of OpenTelemetry can be imported imports all of ours."""
    code = (
        f"{WITHOUT_EXTRA}\n"
        "import services.coordinator.runner, gsi.rpc.server, gsi.client.sdk\n"
        "from gsi.runtime.tracing import NOTHING, JobTrace, current_traceparent, tracing\n"
        "tracing.start('coordinator', None, 1.0)\n"
        "run, step = tracing.begin_run(JobTrace('a', 0), 1), tracing.begin_step(0)\n"
        "with run, step, tracing.begin_phase('draft') as phase:\n"
        "    phase.set(n=1)\n"
        "print(run is step is phase is NOTHING, run.trace_id, phase.traceparent, current_traceparent())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "None"]


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    """Not by us: a library that finds it installed may do so, as redis-py does."""
    code = (
        "import sys, gsi.rpc.server, gsi.runtime.settings\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_a_span_that_is_not_collected_costs_no_time() -> None:
    """A hundred thousand of them take less than a second: ten microseconds for one, where a step takes milliseconds."""
    tracing, began = Tracing(), time.perf_counter()
    for _ in range(100_000):
        with tracing.begin_phase("draft") as span:
            span.set(n=4)
    assert time.perf_counter() - began < 1.0


async def test_a_job_is_one_tree() -> None:
    """Job, run, steps, phases and the called service's span; attributes have names; times enclose each other."""
    received = await traced(JOB)
    (job,) = received.named("job")
    (run,) = received.children(job)
    steps = received.children(run)
    assert [(span.name, span.attributes) for span in (run, *steps)] == [
        ("run", {"gsi.job": "mine-1", "gsi.attempt": 1}),
        ("step", {"gsi.step": 0, "gsi.outcome": "accepted"}),
        ("step", {"gsi.step": 1, "gsi.outcome": "accepted"}),
    ]
    (draft,) = received.children(steps[0])
    assert (draft.name, draft.attributes) == ("draft", {"gsi.n": 4, "gsi.reward": 0.5})
    assert [span.name for span in received.children(draft)] == ["Propose"]
    assert job.start == JOB.submitted_ms * 1_000_000
    for inner, outer in ((draft, steps[0]), (steps[1], run), (run, job)):
        assert outer.start <= inner.start <= inner.end <= outer.end


async def test_a_job_that_goes_on_elsewhere_stays_in_its_trace() -> None:
    """Two attempts in two processes have one trace and one job span; a new submission has another trace."""
    received = await traced(JOB, attempts=2)
    assert len({span.trace_id for span in received.spans}) == 1
    (job,) = received.named("job")
    assert [run.attributes["gsi.attempt"] for run in received.children(job)] == [1, 2]
    later = await traced(JobTrace(JOB.job_id, JOB.submitted_ms + 1))
    assert {span.trace_id for span in later.spans}.isdisjoint(span.trace_id for span in received.spans)


async def test_a_job_is_in_the_trace_of_who_submitted_it() -> None:
    """Its span is a child of the submitter's; if the submitter is not traced, the job is not, whatever our ratio."""
    received = await traced(JobTrace("a", 0, GIVEN), ratio=0.0)
    (job,) = received.named("job")
    assert (job.trace_id, job.parent_id) == (GIVEN[3:35], GIVEN[36:52])
    received = await traced(JobTrace("a", 0, GIVEN[:-2] + "00"))
    assert received.spans == []


async def test_a_share_of_the_jobs_is_traced() -> None:
    """By their ids, so that each coordinator decides alike: of two hundred jobs about half, whole or not at all."""
    async with collector() as received:
        choices = []
        for _ in range(2):
            tracing = Tracing()
            tracing.start("coordinator", received.endpoint, 0.5)
            runs = [tracing.begin_run(JobTrace(f"job-{number}", 0), 1) for number in range(200)]
            choices.append([run is not NOTHING for run in runs])
            await asyncio.to_thread(tracing.stop)
    assert choices[0] == choices[1]
    assert 70 < sum(choices[0]) < 130


def fail_within_a_step(tracing: Tracing) -> None:
    with tracing.begin_run(JOB, 1):
        tracing.begin_step(0)
        raise ValueError("secret")


async def test_what_is_open_when_a_run_fails_is_closed_and_marked() -> None:
    """The span has the error's kind, never its text: the text may quote a prompt."""
    async with collector() as received:
        tracing = Tracing()
        tracing.start("coordinator", received.endpoint, 1.0)
        with pytest.raises(ValueError, match="secret"):
            fail_within_a_step(tracing)
        assert tracing.begin_phase("draft") is NOTHING
        await asyncio.to_thread(tracing.stop)
    assert [(span.name, span.is_failed) for span in received.spans] == [("step", True), ("run", True)]
    assert "secret" not in repr(received.spans)


def test_a_malformed_context_of_a_caller_begins_no_trace_of_its_own() -> None:
    """A stranger's metadata must not make a service collect anything."""
    tracing = Tracing()
    tracing.start("draft", f"http://127.0.0.1:{free_port()}", 1.0)
    assert [tracing.begin_serving("Propose", text) for text in ("", "00-x", "\x00", "9" * 10_000)] == [NOTHING] * 4
    tracing.stop()


def test_a_collector_that_is_away_is_said_once_and_waited_for_no_longer_than_seconds() -> None:
    """Spans are made as fast as ever, and stopping takes a few seconds at most."""
    tracing = Tracing()
    with capture_logs() as events:
        tracing.start("coordinator", f"http://127.0.0.1:{free_port()}", 1.0)
        began = time.perf_counter()
        for number in range(5_000):
            tracing.begin_run(JobTrace(f"job-{number}", 0), 1).end()
        assert time.perf_counter() - began < 3.0
        began = time.perf_counter()
        tracing.stop()
        assert time.perf_counter() - began < tracing_module.FLUSH_SECONDS + 1
    assert [event["event"] for event in events] == ["traces may be incomplete"]


def test_an_endpoint_without_the_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the variable and the extra; without an endpoint the extra is not missed."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    assert settings(None).traces_endpoint is None
    with pytest.raises(ValueError, match=r"GSI_DRAFT_TRACES_ENDPOINT: needs the extra tracing.*gsi-serve\[tracing\]"):
        settings("http://127.0.0.1:4317")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4317", "http://127.0.0.1", "http://user:secret@host:4317", "ftp://h:1"]
)
def test_an_endpoint_is_a_url_with_a_port(endpoint: str) -> None:
    """A password has no place in it: OTEL_EXPORTER_OTLP_HEADERS is for that."""
    with pytest.raises(ValueError, match="traces_endpoint"):
        settings(endpoint)


def test_a_process_that_cannot_trace_does_not_start() -> None:
    """As with every bad setting it ends with code 78, before it connects to anything."""
    code = f"import runpy; {WITHOUT_EXTRA}\nrunpy.run_module('services.coordinator', run_name='__main__')"
    addresses = {f"GSI_COORDINATOR_{role}": "127.0.0.1:1" for role in ("DRAFT", "TARGET", "PRM")}
    environment = {**os.environ, **addresses, "GSI_COORDINATOR_TRACES_ENDPOINT": "http://127.0.0.1:4317"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == EXIT_BAD_SETTINGS
    assert run.stderr == (
        "bad setting  GSI_COORDINATOR_TRACES_ENDPOINT: needs the extra tracing, which is not installed; "
        "pip install 'gsi-serve[tracing]'\n"
    )


def test_who_submits_inside_a_span_of_his_own_passes_it_on() -> None:
    """The SDK passes on the W3C context of the active span, and nothing outside of a span."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("theirs")
    with tracer.start_as_current_span("request") as span:
        found = current_traceparent()
        context = span.get_span_context()
    assert found is not None
    assert found.split("-")[1:3] == [api.format_trace_id(context.trace_id), api.format_span_id(context.span_id)]
    assert current_traceparent() is None
