"""The routes of ``/gsi/v1``. Each says by the type of its caller which right of a key it needs."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import JSONResponse, Response

import gsi
from services.gateway.callers import Operator, Reader, Submitter
from services.gateway.gateway import Gateway
from services.gateway.gsi_api.evaluations import Evaluations
from services.gateway.gsi_api.events import open_events
from services.gateway.gsi_api.jobs import Jobs
from services.gateway.gsi_api.requests import JobRequest, ListRequest, QueueName, Reason, list_methods
from services.gateway.guard import Caller

MAX_AFTER = 1_000_000
IMAGE_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "inline"}


def add_gsi_routes(app: FastAPI, gateway: Gateway, evaluations: Evaluations) -> None:
    """Add ``/gsi/v1``."""
    jobs = Jobs(gateway)
    _add_session(app, gateway, jobs, evaluations)
    _add_reading(app, gateway, jobs)
    _add_acting(app, jobs)
    _add_queue(app, jobs)
    _add_evaluations(app, evaluations)


def _add_session(app: FastAPI, gateway: Gateway, jobs: Jobs, evaluations: Evaluations) -> None:
    @app.get("/gsi/v1/session", summary="What the caller may see and do")
    async def session(caller: Reader) -> dict[str, Any]:
        return _describe_session(gateway, jobs, evaluations, caller)


def _describe_session(gateway: Gateway, jobs: Jobs, evaluations: Evaluations, caller: Caller) -> dict[str, Any]:
    models = gateway.guard.list_models(caller).items()
    return {
        "version": gsi.__version__,
        "tenant": caller.tenant,
        "rights": list(caller.rights),
        "needs_key": gateway.guard.needs_key,
        "queues": jobs.queues_of(caller),
        "models": [{"id": name, **preset.model_dump(mode="json")} for name, preset in models],
        "methods": list_methods(),
        "has_evaluations": evaluations.is_on,
    }


def _add_reading(app: FastAPI, gateway: Gateway, jobs: Jobs) -> None:
    @app.get("/gsi/v1/jobs", summary="The newest jobs that the caller may look at")
    async def list_jobs(caller: Reader, query: Annotated[ListRequest, Query()]) -> dict[str, Any]:
        return await jobs.list(caller, query)

    @app.get("/gsi/v1/jobs/{job_id}", summary="A job with its steps")
    async def show(caller: Reader, job_id: str) -> Response:
        return JSONResponse(await jobs.show(await jobs.find(caller, job_id)))

    @app.get("/gsi/v1/jobs/{job_id}/events", summary="A job's steps as they are kept, and its end")
    async def follow(
        caller: Reader,
        job_id: str,
        after: Annotated[int, Query(ge=-1, le=MAX_AFTER, description="Number of the last step that is known.")] = -1,
    ) -> Response:
        found = await jobs.find(caller, job_id)
        stack = AsyncExitStack()
        async with stack:  # which the response closes, unless there is none
            events = await open_events(jobs, found, after, stack)
            return gateway.stream(stack.pop_all(), events, {})


def _add_acting(app: FastAPI, jobs: Jobs) -> None:
    @app.post("/gsi/v1/jobs", summary="Submit a job", status_code=202)
    async def submit(request: Request, caller: Submitter, body: JobRequest) -> Response:
        made, headers = await jobs.submit(request, caller, body)
        return JSONResponse(made, 202, headers)

    @app.post("/gsi/v1/jobs/{job_id}/cancel", summary="Cancel a job")
    async def cancel(caller: Submitter, job_id: str, body: Reason | None = None) -> dict[str, Any]:
        return await jobs.cancel(await jobs.find(caller, job_id), (body or Reason()).reason)

    @app.post("/gsi/v1/jobs/{job_id}/retry", summary="Push a dead job again")
    async def retry(caller: Submitter, job_id: str) -> dict[str, Any]:
        return await jobs.retry(await jobs.find(caller, job_id))


def _add_queue(app: FastAPI, jobs: Jobs) -> None:
    @app.get("/gsi/v1/queue", summary="A queue as it is now")
    async def look(caller: Reader, queue: QueueName = None) -> dict[str, Any]:
        return await jobs.look(caller, queue)

    @app.post("/gsi/v1/queue/pause", summary="Let coordinators take no more jobs of a queue")
    async def pause(caller: Operator, queue: QueueName = None) -> dict[str, Any]:
        return await jobs.pause(caller, queue, is_paused=True)

    @app.post("/gsi/v1/queue/resume", summary="Let coordinators take jobs of a queue again")
    async def resume(caller: Operator, queue: QueueName = None) -> dict[str, Any]:
        return await jobs.pause(caller, queue, is_paused=False)


def _add_evaluations(app: FastAPI, evaluations: Evaluations) -> None:
    @app.get("/gsi/v1/evaluations", summary="The evaluations, the newest first")
    async def list_evaluations(_caller: Reader) -> dict[str, Any]:
        return await asyncio.to_thread(evaluations.list)

    @app.get("/gsi/v1/evaluations/{name}", summary="An evaluation")
    async def read(_caller: Reader, name: str) -> Response:
        return JSONResponse(await asyncio.to_thread(evaluations.read, name))

    @app.get("/gsi/v1/evaluations/{name}/images/{image}", summary="A plot of an evaluation")
    async def read_image(_caller: Reader, name: str, image: str) -> Response:
        content = await asyncio.to_thread(evaluations.read_image, name, image)
        return Response(content, media_type="image/png", headers=IMAGE_HEADERS)
