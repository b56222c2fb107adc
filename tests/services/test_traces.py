"""Traces and logs of the whole system: real processes, real gRPC, a real receiver of OTLP.

One stack with two coordinators serves all tests of this file; the last one takes the receiver away.
"""

import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from gsi.client.sdk import AsyncClient
from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.stack import ROLES, Stack, local_stack
from tests.collector import Collector, Received, collector
from tests.conftest import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = Keys("default")
PROMPT = held_out_problems(1)[0]["prompt"]
CALLS = {
    "draft": ("gsi-draft", "DraftService/Propose"),
    "resample": ("gsi-target", "TargetService/Propose"),
    "render": ("gsi-draft", "DraftService/RenderPrompt"),
    "score by target": ("gsi-target", "TargetService/Score"),
    "score by prm": ("gsi-prm", "PrmService/Score"),
    "judge by draft": ("gsi-draft", "DraftService/Judge"),
    "judge by target": ("gsi-target", "TargetService/Judge"),
}
NOT_SAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
EVERY_PROCESS = (*ROLES, "coordinator")


@dataclass
class System:
    """The stack, what its processes have logged, and the spans that they have sent."""

    stack: Stack
    client: AsyncClient
    events: list[tuple[str, Mapping[str, Any]]]
    collector: Collector
    collecting: AsyncExitStack

    async def finished(self, job_id: str) -> JobRecord:
        record = await self.client.wait(job_id, 60)
        assert record.state is JobState.SUCCEEDED, record.fields
        return record

    async def trace(self, job_id: str) -> Sequence[Received]:
        """Return the spans of a job that has finished, once all of them have arrived: the job's own is the last."""

        async def has_arrived() -> bool:
            spans = self.collector.of_job(job_id)
            ids, parents = {span.span_id for span in spans}, {span.parent_id for span in spans}
            has_parents = all(span.parent_id in ids or not span.parent_id for span in spans)
            is_answered = all(span.span_id in parents for span in spans if span.name in CALLS)
            return has_parents and is_answered and any(span.name == "job" for span in spans)

        await wait_until(has_arrived, f"the trace of job {job_id} has arrived")
        return self.collector.of_job(job_id)

    def lines(self, job_id: str) -> list[tuple[str, Mapping[str, Any]]]:
        return [(process, event) for process, event in self.events if event.get("job") == job_id]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    events: list[tuple[str, Mapping[str, Any]]] = []
    async with AsyncExitStack() as collecting:
        received = await collecting.enter_async_context(collector())
        settings = {"OTEL_BSP_SCHEDULE_DELAY": "100", "GSI_COORDINATOR_LEASE_SECONDS": "2"}
        for name in map(str.upper, EVERY_PROCESS):
            settings |= {f"GSI_{name}_TRACES_ENDPOINT": received.endpoint, f"GSI_{name}_LOG_LEVEL": "debug"}
        stack = local_stack(
            tmp_path_factory.mktemp("traces"),
            lambda process, event: events.append((process, event)),
            num_coordinators=2,
            settings=settings,
        )
        async with stack as running, AsyncClient(running.redis_url) as client:
            yield System(running, client, events, received, collecting)


async def test_a_job_is_one_tree_over_four_processes(system: System) -> None:
    """Job, run and steps; in a step its phases; in a call the span of the service that answers the call."""
    job_id = await system.client.submit({"prompt": PROMPT, "params": {"n": 4, "seed": 2}})
    record = await system.finished(job_id)
    spans = await system.trace(job_id)
    assert len({span.trace_id for span in spans}) == 1
    (job,) = [span for span in spans if not span.parent_id]
    (run,) = system.collector.children(job)
    assert (job.name, run.name, run.process) == ("job", "run", "gsi-coordinator")
    render, *steps = system.collector.children(run)
    outcomes = [kept.outcome.value for kept in record.steps]
    assert [(step.name, step.attributes["gsi.step"]) for step in steps] == [("step", i) for i in range(len(outcomes))]
    assert [step.attributes["gsi.outcome"] for step in steps] == outcomes
    assert {"accepted", "resampled"} == set(outcomes), "the job must show both"
    phases_of = {"accepted": [], "resampled": ["resample", "score by prm"]}
    for step in steps:
        phases = [span.name for span in system.collector.children(step)]
        expected = ["draft", "score by prm", "score by target", *phases_of[step.attributes["gsi.outcome"]]]
        assert (sorted(phases[:-1]), phases[-1]) == (sorted(expected), "checkpoint")
        assert all(step.start <= span.start <= span.end <= step.end for span in system.collector.children(step))
    calls = [span for span in spans if span.name in CALLS]
    assert render in calls
    for call in calls:
        (served,) = system.collector.children(call)
        assert (served.process, served.name) == CALLS[call.name]
        assert served.attributes["gsi.job"] == job_id
        assert served.attributes.get("gsi.step") == (None if call is render else step_of(call, steps))


async def test_a_judgement_is_a_phase_of_its_step(system: System) -> None:
    """The draft's, and behind it the target's where it was asked; each with the span of its service."""
    params = {"method": "conf-spec", "confidence_threshold": 1, "seed": 2, "max_steps": 2}
    job_id = await system.client.submit({"prompt": PROMPT, "params": params})
    record = await system.finished(job_id)
    spans = await system.trace(job_id)
    steps = [span for span in spans if span.name == "step"]
    for step, kept in zip(steps, record.steps, strict=True):
        phases = [span.name for span in system.collector.children(step)]
        resampled = ["resample"] if kept.rejected else []
        assert phases == ["draft", "judge by draft", "judge by target", *resampled, "checkpoint"]
    for call in [span for span in spans if span.name.startswith("judge")]:
        (served,) = system.collector.children(call)
        assert (served.process, served.name) == CALLS[call.name]


def step_of(call: Received, steps: Sequence[Received]) -> int:
    (index,) = [step.attributes["gsi.step"] for step in steps if step.span_id == call.parent_id]
    return int(index)


async def test_spans_say_what_the_record_says_and_quote_nobody(system: System) -> None:
    """Method, n, beta, u, acceptance rate, rewards and tokens by the field's words; neither prompt nor answer."""
    params = {"n": 4, "beta": 8.0, "acceptance_threshold": 0.9, "seed": 2}
    job_id = await system.client.submit({"prompt": PROMPT, "params": params})
    record = await system.finished(job_id)
    spans = await system.trace(job_id)
    (run,) = [span for span in spans if span.name == "run"]
    accepted = [kept.outcome == "accepted" for kept in record.steps]
    assert run.attributes == {
        "gsi.job": job_id,
        "gsi.attempt": 1,
        "gsi.method": "gsi",
        "gsi.n": 4,
        "gsi.beta": 8.0,
        "gsi.acceptance_threshold": 0.9,
        "gsi.kept_steps": 0,
        "gsi.stop_reason": record.fields["stop_reason"],
        "gsi.num_steps": len(accepted),
        "gsi.acceptance_rate": sum(accepted) / len(accepted),
        "gsi.state": "SUCCEEDED",
    }
    first = next(span for span in spans if span.name == "step" and span.attributes["gsi.step"] == 0)
    assert first.attributes["gsi.reward"] == record.steps[0].reward
    assert first.attributes["gsi.draft_tokens"] == record.steps[0].draft_tokens
    texts = [PROMPT, *(kept.text.strip() for kept in record.steps)]
    assert not any(text in repr(spans) for text in texts)


async def test_a_job_that_is_resumed_elsewhere_stays_in_its_trace(system: System) -> None:
    """Its coordinator is killed after a kept step: the next run is in the same trace, and resumes after that step."""
    redis: Any = connect(system.stack.redis_url)
    params = {"n": 32, "seed": 2, "max_steps": 12, "answer_pattern": None}
    job_id = await system.client.submit({"prompt": PROMPT, "params": params})
    while (await redis.hget(KEYS.record(job_id), "num_steps")) not in {b"1", b"2"}:
        pass
    worker = await redis.hget(KEYS.record(job_id), "worker")
    await redis.aclose()
    os.kill(int(worker.split(b"-")[-2]), signal.SIGKILL)
    record = await system.finished(job_id)
    assert record.fields["attempt"] == "2"

    async def has_ended() -> bool:
        return any(span.name == "job" for span in system.collector.of_job(job_id))

    await wait_until(has_ended, "the job's own span has arrived")
    spans = system.collector.of_job(job_id)
    logged = {(event["attempt"], event["trace_id"]) for _, event in system.lines(job_id)}
    (trace_id,) = {span.trace_id for span in spans}
    assert logged == {(1, trace_id), (2, trace_id)}
    (run,) = [span for span in spans if span.name == "run"]  # the first run was killed with its coordinator
    kept_before = run.attributes["gsi.kept_steps"]
    resumed = [step.attributes["gsi.step"] for step in system.collector.children(run) if step.name == "step"]
    assert (run.attributes["gsi.attempt"], kept_before > 0) == (2, True)
    assert resumed == list(range(kept_before, len(record.steps)))


async def test_a_job_is_in_the_trace_of_the_program_that_submitted_it(system: System) -> None:
    """The SDK passes on the span that is active; a caller who is not traced has no traced job."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("theirs")
    with tracer.start_as_current_span("request") as request:
        job_id = await system.client.submit({"prompt": PROMPT, "params": {"n": 2}})
    unseen = await system.client.submit({"prompt": PROMPT, "params": {"n": 2}, "traceparent": NOT_SAMPLED})
    await system.finished(unseen)
    await system.finished(job_id)
    theirs = request.get_span_context()

    async def has_ended() -> bool:
        return any(span.name == "job" for span in system.collector.of_job(job_id))

    await wait_until(has_ended, "the job's own span has arrived")
    (job,) = [span for span in system.collector.of_job(job_id) if span.name == "job"]
    assert (job.trace_id, job.parent_id) == (format_trace_id(theirs.trace_id), format_span_id(theirs.span_id))
    assert not any(span.trace_id == "a" * 32 for span in system.collector.spans)
    assert system.collector.of_job(unseen) == []


async def test_a_job_s_lines_are_found_by_its_id_in_every_process(system: System) -> None:
    """Each line has attempt, step, role and trace; a line about no job names no job."""
    job_id = await system.client.submit({"prompt": PROMPT, "params": {"n": 4, "seed": 3}})
    record = await system.finished(job_id)
    (trace_id,) = {span.trace_id for span in await system.trace(job_id)}

    async def are_written() -> bool:
        return {event["role"] for _, event in system.lines(job_id)} == set(EVERY_PROCESS) and any(
            event["event"] == "job ended" for _, event in system.lines(job_id)
        )

    await wait_until(are_written, "every process has logged")
    lines = [event for _, event in system.lines(job_id)]
    assert all((event["attempt"], event["trace_id"]) == (1, trace_id) for event in lines)
    served = [event for event in lines if event["event"] == "rpc" and event["method"] == "Score"]
    assert {event["step"] for event in served} == set(range(len(record.steps)))
    assert [event["step"] for event in lines if event["event"] == "step kept"] == list(range(len(record.steps)))
    assert not any("job" in event for _, event in system.events if event["event"] in {"ready", "models", "metrics"})


async def test_jobs_go_on_without_the_receiver_and_the_log_says_so_once(system: System) -> None:
    """From here on no process listens at the endpoint."""
    await system.collecting.aclose()
    ids = [await system.client.submit({"prompt": PROMPT, "params": {"n": 4, "seed": seed}}) for seed in range(4)]
    for job_id in ids:
        await system.finished(job_id)

    def complaints() -> list[str]:
        return [process for process, event in system.events if event["event"] == "traces may be incomplete"]

    async def has_been_said() -> bool:
        return bool(complaints())

    await wait_until(has_been_said, "a process says that its spans do not arrive")
    assert len(complaints()) == len(set(complaints()))
