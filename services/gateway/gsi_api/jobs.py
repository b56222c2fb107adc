"""Jobs of every queue of the gateway: listed, looked at, submitted, cancelled and retried."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from gsi.errors import InvalidRequestError
from gsi.jobs.errors import UnknownJobError
from gsi.jobs.listing import JobFilter, JobSummary
from gsi.jobs.state import JobState
from gsi.limits import JOB_ID_PATTERN
from services.gateway.errors import ApiError
from services.gateway.gateway import Gateway
from services.gateway.gsi_api.documents import describe_queue, describe_summary, describe_whole
from services.gateway.gsi_api.requests import JobRequest, ListRequest, make_order
from services.gateway.guard import Caller
from services.gateway.headers import read_idempotency_key, read_traceparent
from services.gateway.queues import Queue
from services.gateway.translation import Sender


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job that the caller may look at, and where it is."""

    queue_name: str
    queue: Queue
    summary: JobSummary


class Jobs:
    """What a caller may see and do. A job of a tenant that the caller may not look at does not exist for it: 404."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def queues_of(self, caller: Caller) -> list[str]:
        """Return the queues of the models that the caller may ask."""
        return sorted({preset.queue for preset in self._gateway.guard.list_models(caller).values()})

    def choose_queue(self, caller: Caller, name: str | None) -> str:
        """Return a queue, the first unless it is named. Raises ApiError 404 for one that the caller may not see."""
        allowed = self.queues_of(caller)
        if name and name not in allowed:
            raise ApiError(
                404,
                f"queue: no queue {name[:64]}; allowed: {', '.join(allowed)}",
                param="queue",
                code="queue_not_found",
            )
        if not allowed:
            raise ApiError(404, "queue: this key may ask no model of this gateway", param="queue")
        return name or allowed[0]

    async def list(self, caller: Caller, request: ListRequest) -> dict[str, Any]:
        """Return the newest jobs. Raises ApiError that names a field at fault."""
        wanted = request.to_filter()
        names = [self.choose_queue(caller, request.queue)] if request.queue else self.queues_of(caller)
        if not caller.sees(wanted.tenant or ""):
            if wanted.tenant:
                return {"jobs": []}
            wanted = JobFilter(wanted.state, wanted.method, caller.tenant, wanted.text)
        jobs = [job for name in names for job in await self._list(name, wanted, request.limit)]
        newest = sorted(jobs, key=lambda job: job["submitted_at"] or 0.0, reverse=True)
        return {"jobs": newest[: request.limit]}

    async def _list(self, name: str, wanted: JobFilter, limit: int) -> Iterable[dict[str, Any]]:
        views = self._gateway.queues[name].views
        jobs = await views.jobs.newest(wanted, limit)
        progress = await views.progress.read(jobs)
        return [describe_summary(name, job, progress.get(job.id)) for job in jobs]

    async def find(self, caller: Caller, job_id: str) -> FoundJob:
        """Return a job that the caller may look at. Raises ApiError 404 for any other."""
        if re.fullmatch(JOB_ID_PATTERN, job_id):
            for name in self.queues_of(caller):
                queue = self._gateway.queues[name]
                job = (await queue.views.jobs.find([job_id])).get(job_id)
                if job is not None and caller.sees(job.tenant):
                    return FoundJob(name, queue, job)
        raise _not_found(job_id)

    async def show(self, found: FoundJob) -> dict[str, Any]:
        """Return a job as it is now, with its steps. Raises ApiError 404 if it was deleted meanwhile."""
        job_id, views = found.summary.id, found.queue.views
        try:
            record = await found.queue.client.result(job_id)
        except UnknownJobError:
            raise _not_found(job_id) from None
        summary = (await views.jobs.find([job_id])).get(job_id, found.summary)
        progress = await views.progress.read([summary])
        return describe_whole(describe_summary(found.queue_name, summary, progress.get(job_id)), record)

    async def submit(self, request: Request, caller: Caller, body: JobRequest) -> tuple[dict[str, Any], dict[str, str]]:
        """Submit a job; return its id and queue, and the headers of the answer. Raises ApiError for what is refused."""
        guard = self._gateway.guard
        preset = guard.find_model(caller, body.model)
        headers = request.headers
        sender = Sender(
            request.state.request_id, caller.tenant, read_traceparent(headers), read_idempotency_key(headers)
        )
        order = make_order(body, preset, sender, self._gateway.result_ttl_seconds)
        told = await guard.admit(caller)
        async with self._gateway.answering(order, caller) as answers:
            job_id = answers.choices[0].job_id
        return {"id": job_id, "queue": preset.queue}, told

    async def cancel(self, found: FoundJob, reason: str) -> dict[str, Any]:
        """Cancel a job: one that waits at once, one that runs within a second. Raises ApiError 409 if it has ended."""
        job_id = found.summary.id
        try:
            state = await found.queue.client.cancel(job_id, reason)
        except UnknownJobError:
            raise _not_found(job_id) from None
        if state.is_finished:
            raise ApiError(409, f"job {job_id} is {state}; allowed: a job that waits or runs", code="job_finished")
        return {"id": job_id, "state": JobState.CANCELLED if state is JobState.QUEUED else state}

    async def retry(self, found: FoundJob) -> dict[str, Any]:
        """Push a dead job again; it goes on after its kept steps. Raises ApiError 409 if it is not dead."""
        try:
            await found.queue.client.dead.retry(found.summary.id)
        except UnknownJobError:
            raise _not_found(found.summary.id) from None
        except InvalidRequestError as error:
            raise ApiError(409, str(error), param="id", code="job_not_dead") from None
        return {"id": found.summary.id, "state": JobState.QUEUED}

    async def look(self, caller: Caller, name: str | None) -> dict[str, Any]:
        """Return a queue as it is now. Raises ApiError 404 for one that the caller may not see."""
        chosen = self.choose_queue(caller, name)
        return describe_queue(chosen, await self._gateway.queues[chosen].views.overview.look(), caller)

    async def pause(self, caller: Caller, name: str | None, *, is_paused: bool) -> dict[str, Any]:
        """Pause a queue, or let it go on. Raises ApiError 404 for one that the caller may not see."""
        chosen = self.choose_queue(caller, name)
        admin = self._gateway.queues[chosen].client.admin
        await (admin.pause() if is_paused else admin.resume())
        return {"queue": chosen, "is_paused": is_paused}


def _not_found(job_id: str) -> ApiError:
    return ApiError(404, f"id: no job {job_id[:100]}", param="id", code="job_not_found")
