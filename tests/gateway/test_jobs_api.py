"""`/gsi/v1`: jobs listed, looked at, followed, submitted, cancelled and retried; the queue."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gsi.jobs.connection import connect
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.writer import JobWriter
from tests.gateway.jobs import finish, get, submit
from tests.gateway.system import Gateway, Models

pytestmark = pytest.mark.asyncio(loop_scope="session")

IDLE = "gateway-idle"  # a queue that no coordinator reads: its jobs wait, and the tests take them themselves


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that asks for no key, and so may do everything."""
    async with gateway.http() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def idle(models: Models) -> AsyncIterator[Gateway]:
    """A gateway on a queue that no coordinator reads."""
    async with models.gateway("idle", {"GSI_GATEWAY_QUEUE": IDLE}) as running:
        yield running


async def read_events(http: httpx.AsyncClient, job_id: str, **query: Any) -> list[tuple[str, str | None, Any]]:
    """Return kind, id and data of each event of a job, to the end of the stream."""
    found = []
    async with http.stream("GET", f"/gsi/v1/jobs/{job_id}/events", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join([part async for part in answer.aiter_text()])
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


async def test_a_session_says_what_there_is(http: httpx.AsyncClient, models: Models) -> None:
    """Without keys the caller may do everything, and is of the default tenant."""
    found = await get(http, "session")
    assert (found["tenant"], found["needs_key"], found["queues"]) == ("default", False, [models.queue])
    assert found["rights"] == ["read", "submit", "operate"]
    assert {"id": "gsi", "queue": models.queue, "params": {"method": "gsi"}} == {
        name: value for name, value in found["models"][0].items() if name != "description"
    }
    assert "beam-search" in found["methods"]
    assert found["has_evaluations"] is False


async def test_a_job_is_told_whole(http: httpx.AsyncClient) -> None:
    """Question, answer, tokens, seconds, and each step with the candidates that it was chosen from."""
    job_id = await submit(http, r"One. |\boxed{7}", keep_candidates=True, priority="high")
    whole = await finish(http, job_id)
    job, steps = whole["job"], whole["steps"]
    assert (job["state"], job["prompt"], job["answer"]) == ("SUCCEEDED", r"One. |\boxed{7}", "7")
    assert (job["method"], job["lane"], job["tenant"], job["attempts"]) == ("gsi", "high", "default", 1)
    assert [step["text"] for step in steps] == ["One. ", r"\boxed{7}"]
    assert all(len(step["proposals"][0]["candidates"]) == 2 for step in steps)
    assert job["usage"]["draft_tokens"] == sum(step["draft_tokens"] for step in steps) > 0
    assert job["seconds"]["models"] == pytest.approx(sum(step["seconds"] for step in steps), abs=1e-5)
    assert {"waiting", "running", "propose", "prm"} <= job["seconds"].keys()
    accepted = [step["outcome"] == "accepted" for step in steps]
    assert (job["num_steps"], job["acceptance"]) == (2, sum(accepted) / 2)


async def test_parameters_are_those_of_the_model_with_the_requests_over_them(http: httpx.AsyncClient) -> None:
    """An error names the parameter at fault, as the request has it."""
    job = (await finish(http, await submit(http, "5", model="gsi:draft", params={"n": 3, "seed": 5})))["job"]
    assert (job["params"]["method"], job["params"]["n"], job["params"]["seed"]) == ("draft", 3, 5)
    for wrong, param in (
        ({"params": {"n": 0}}, "params.n"),
        ({"params": {"nn": 1}}, "params.nn"),
        ({"prompt": ""}, "prompt"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"priority": "highest"}, "priority"),
        ({"tenant": "other"}, "tenant"),
        ({"model": "gsi:nothing"}, "model"),
    ):
        answer = await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": "5"} | wrong)
        assert (answer.status_code in {400, 404}, answer.json()["error"]["param"]) == (True, param), answer.text


async def test_jobs_are_listed_newest_first_and_filtered(http: httpx.AsyncClient) -> None:
    """By state, method, and a part of the id or of the question; long questions are cut."""
    first = await submit(http, "needle in the hay")
    second = await submit(http, f"NEEDLE {'x' * 500}", model="gsi:draft")
    await finish(http, first)
    await finish(http, second)
    found = (await get(http, "jobs", q="needle"))["jobs"]
    assert [job["id"] for job in found] == [second, first]
    assert len(found[0]["prompt"]) == 200
    assert [job["id"] for job in (await get(http, "jobs", q="needle", method="draft"))["jobs"]] == [second]
    assert [job["id"] for job in (await get(http, "jobs", q=first[3:]))["jobs"]] == [first]
    assert (await get(http, "jobs", q="needle", state="FAILED"))["jobs"] == []
    assert len((await get(http, "jobs", limit=1))["jobs"]) == 1


async def test_a_list_is_bounded_and_a_wrong_filter_is_named(http: httpx.AsyncClient) -> None:
    """An unknown filter is refused as well: a mistyped one would list everything."""
    for query, param in (
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"state": "DONE"}, "state"),
        ({"method": "magic"}, "method"),
        ({"tenant": "a b"}, "tenant"),
        ({"q": "x" * 201}, "q"),
        ({"stat": "DEAD"}, "stat"),
        ({"queue": "none"}, "queue"),
    ):
        answer = await http.get("/gsi/v1/jobs", params=query)
        assert (answer.status_code in {400, 404}, answer.json()["error"]["param"]) == (True, param), answer.text


async def test_a_job_is_followed_to_its_end(http: httpx.AsyncClient) -> None:
    """Each step comes with its number, and the end is the job as it is told; also of a job that has ended."""
    job_id = await submit(http, r"~One. |~Two. |\boxed{3}")
    live = await read_events(http, job_id)
    assert [(kind, number) for kind, number, _ in live if kind != "state"] == [
        ("step", "0"),
        ("step", "1"),
        ("step", "2"),
        ("end", None),
    ]
    assert [data["state"] for kind, _, data in live if kind == "state"][-1] == "RUNNING"
    assert live[-1][2] == await get(http, f"jobs/{job_id}")
    later = await read_events(http, job_id, after=1)
    assert [(kind, number) for kind, number, _ in later] == [("state", None), ("step", "2"), ("end", None)]
    assert later[1][2]["text"] == r"\boxed{3}"


async def test_a_job_that_another_program_pushed_is_followed(gateway: Gateway, http: httpx.AsyncClient) -> None:
    """The gateway need not have submitted it."""
    job_id = await gateway.jobs.submit({"prompt": "~a|b", "params": {"n": 1}})
    assert [kind for kind, _, _ in await read_events(http, job_id) if kind != "state"] == ["step", "step", "end"]


async def test_a_job_is_cancelled_once(http: httpx.AsyncClient) -> None:
    """Its reason is its error, and its kept steps stay; a second time is a conflict."""
    job_id = await submit(http, "|".join(["~step "] * 30))
    answer = await http.post(f"/gsi/v1/jobs/{job_id}/cancel", json={"reason": "not needed"})
    assert answer.status_code == 200
    job = (await finish(http, job_id))["job"]
    assert (job["state"], job["error"]) == ("CANCELLED", "not needed")
    again = await http.post(f"/gsi/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_finished")
    too_long = await http.post(f"/gsi/v1/jobs/{job_id}/cancel", json={"reason": "x" * 201})
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "reason")


async def kill(models: Models, job_id: str) -> None:
    """Take a job from the idle queue as a coordinator whose every attempt fails, until it is dead."""
    async with aclosing(connect(models.redis_url)) as redis:
        keys = Keys(IDLE)
        stream, writer = JobStream(redis, keys, "worker-1"), JobWriter(redis, keys, Policy(max_attempts=1))
        await stream.create_group()
        for delivery in await stream.take_new(100, 100):
            found = json.loads(delivery.payload)["id"]
            lease = await writer.take(found, delivery)
            assert lease is not None
            if found == job_id:
                assert await writer.retry(lease, "the draft is away", 0) is JobState.DEAD


async def test_a_dead_job_says_why_and_is_pushed_again(idle: Gateway, models: Models) -> None:
    """The queue lists its letter with the attempts; retried, it waits again, and cannot be retried twice."""
    async with idle.http() as http:
        job_id = await submit(http, "5")
        await kill(models, job_id)
        whole = (await get(http, f"jobs/{job_id}"))["job"]
        assert (whole["state"], whole["dead_reason"]) == ("DEAD", "tried 1 times")
        assert "the draft is away" in whole["error"]
        queue = await get(http, "queue")
        (letter,) = queue["dead_letters"]
        assert (queue["dead"], letter["id"], letter["error"], letter["attempts"]) == (1, job_id, "the draft is away", 1)
        assert (await http.post(f"/gsi/v1/jobs/{job_id}/retry")).json() == {"id": job_id, "state": "QUEUED"}
        assert (await get(http, "queue"))["dead_letters"] == []
        again = await http.post(f"/gsi/v1/jobs/{job_id}/retry")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "job_not_dead")


async def test_a_queue_is_told_with_its_lanes_and_who_works(idle: Gateway, models: Models) -> None:
    """Lanes with what waits and for how long, the coordinator with its jobs, paused or not."""
    async with idle.http() as http:
        held = await submit(http, "held", priority="low")
        async with aclosing(connect(models.redis_url)) as redis:
            stream = JobStream(redis, Keys(IDLE), "worker-2")
            await stream.create_group()
            taken = await stream.take_new(100, 100)
            assert held in [json.loads(delivery.payload)["id"] for delivery in taken]
        waiting = await submit(http, "waits", priority="high")
        found = await get(http, "queue", queue=IDLE)
        lanes = {lane["name"]: lane for lane in found["lanes"]}
        assert list(lanes) == ["high", "normal", "low"]
        assert (lanes["high"]["entries"], lanes["high"]["lag"], lanes["low"]["lag"]) == (1, 1, 0)
        assert lanes["high"]["oldest_seconds"] >= 0 == lanes["low"]["oldest_seconds"]
        (worker,) = [each for each in found["coordinators"] if each["name"] == "worker-2"]
        assert held in worker["jobs"]
        assert waiting not in worker["jobs"]
        assert (await http.post("/gsi/v1/queue/pause")).json() == {"queue": IDLE, "is_paused": True}
        assert (await get(http, "queue"))["is_paused"] is True
        assert (await http.post("/gsi/v1/queue/resume")).json()["is_paused"] is False
        assert (await get(http, "queue"))["is_paused"] is False
        await http.post(f"/gsi/v1/jobs/{waiting}/cancel")


async def test_a_finished_job_keeps_its_question_unless_it_is_long(gateway: Gateway, http: httpx.AsyncClient) -> None:
    """A list can be searched by it later; but long payloads must not fill the server."""
    short, long = await submit(http, "short"), await submit(http, "y" * 20_000)
    assert (await finish(http, short))["job"]["prompt"] == "short"
    assert (await finish(http, long))["job"]["prompt"] is None
    assert "payload" not in (await gateway.jobs.result(long)).fields


async def test_streams_need_no_connection_to_redis_each(models: Models, http: httpx.AsyncClient) -> None:
    """All followers of a queue share its feed."""
    job_id = await submit(http, "|".join(["~a "] * 30))
    async with aclosing(connect(models.redis_url)) as client, AsyncExitStack() as stack:
        redis: Any = client
        before = len(await redis.client_list())
        for _ in range(40):
            await stack.enter_async_context(http.stream("GET", f"/gsi/v1/jobs/{job_id}/events"))
        assert len(await redis.client_list()) < before + 10
    await http.post(f"/gsi/v1/jobs/{job_id}/cancel")
