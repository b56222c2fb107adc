"""The work on one batch: check its lines, submit their jobs, wait for them, write its files.

Each step can be done again: a line's jobs have ids made of the batch's and the line's number, so that submitting them
twice makes them once; the files' ids are made of the batch's. So a gateway that goes on after another one was killed
starts from the beginning, and no line is lost or run twice.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import IO, Any

from gsi.errors import InvalidRequestError, RetryableError
from gsi.jobs.connection import RedisError
from gsi.jobs.documents import Unfinished
from gsi.jobs.state import JobState
from services.gateway.answers import Answers, Choice
from services.gateway.batches.documents import (
    CANCELLED,
    EXPIRED,
    Batch,
    Counts,
    answer_line,
    missing_line,
    refusal_line,
)
from services.gateway.batches.lines import Line, read_line, split
from services.gateway.errors import ApiError
from services.gateway.files import Files
from services.gateway.gateway import Gateway
from services.gateway.responses.documents import describe_usage
from services.gateway.tokens import Tokens
from services.gateway.translation import Order

MAX_LINES = 50_000
MAX_ERRORS = 100  # that a batch lists
CHUNK_LINES = 100
POLL_SECONDS = 0.5
PAUSE_SHARE = 4  # between two polls, times what a poll takes: of 50,000 jobs half a second
POLLED_TOGETHER = 500
MAX_PAUSE_SECONDS = 10.0  # while the queue is full


class BatchWork:
    """Works on one batch."""

    def __init__(
        self, gateway: Gateway, files: Files, unfinished: Unfinished, save: Callable[[Batch], Awaitable[None]]
    ) -> None:
        self._gateway = gateway
        self._files = files
        self._unfinished = unfinished
        self._save = save

    async def run(self, batch: Batch) -> None:
        """Bring a batch from where it is to its end."""
        if batch.is_finished:
            return
        if batch.status == "validating":
            batch = await self._validate(batch)
            await self._save(batch)
            if batch.is_finished:
                return
        ending = await self._submit_and_wait(batch)
        batch = batch.moved("finalizing")
        await self._save(batch)
        await self._save(await self._write_files(batch, ending))

    async def _validate(self, batch: Batch) -> Batch:
        """Return the batch in progress, or failed with what is wrong with its lines."""
        faults: list[dict[str, Any]] = []
        seen, models = set[str](), set[str]()
        total = 0
        async for line in self._lines(batch):
            total += 1
            fault = line.fault or (f"custom_id {line.custom_id} is given twice" if line.custom_id in seen else "")
            seen.add(line.custom_id)
            models |= {line.order.model} if line.order else set()
            if fault and len(faults) < MAX_ERRORS:
                faults.append({"code": "invalid_line", "message": fault, "param": None, "line": line.number})
            if total > MAX_LINES:
                faults = [_fault(f"more than {MAX_LINES} lines")]
                break
        if not total:
            faults = [_fault("the file has no lines")]
        if faults:
            return batch.moved("failed", errors=tuple(faults))
        model = models.pop() if len(models) == 1 else None
        return batch.moved("in_progress", counts=Counts(total=total), model=model)

    async def _submit_and_wait(self, batch: Batch) -> str:
        """Submit every line, and return how the batch ends when all jobs have: completed, expired or cancelled."""
        open_jobs: dict[str, set[str]] = {}
        num_refused, lines_of_jobs, is_whole = 0, dict[str, int](), True
        async for line in self._lines(batch):
            if await self._is_cancelled(batch):
                is_whole = False
                break
            if line.order is None:
                num_refused += 1
                continue
            is_whole = await self._submit(batch, line.order)
            if not is_whole:
                break
            for job in line.order.jobs:
                open_jobs.setdefault(line.order.preset.queue, set()).add(job.job_id)
                lines_of_jobs[job.job_id] = line.number
        ending, states = "completed", dict[str, JobState | None]()
        while any(open_jobs.values()):
            began = time.monotonic()
            await self._poll(open_jobs, states)
            await self._save(batch.model_copy(update={"counts": _count(batch, num_refused, lines_of_jobs, states)}))
            if ending == "completed" and (await self._is_cancelled(batch) or time.time() >= batch.expires_at):
                ending = "cancelled" if await self._is_cancelled(batch) else "expired"
                await self._cancel(open_jobs)
            await asyncio.sleep(max(POLL_SECONDS, PAUSE_SHARE * (time.monotonic() - began)))
        if await self._is_cancelled(batch):
            return "cancelled"
        return ending if is_whole else "expired"

    async def _submit(self, batch: Batch, order: Order) -> bool:
        """Submit a line's jobs; return False if the batch ends while the queue is full."""
        client = self._gateway.queues[order.preset.queue].client
        while True:
            try:
                async for _ in client.submit_many(order.jobs):
                    pass
            except RedisError:  # which may be a RetryableError, too
                raise
            except RetryableError as error:
                if time.time() >= batch.expires_at or await self._is_cancelled(batch):
                    return False
                await asyncio.sleep(min(error.retry_after_seconds or 1.0, MAX_PAUSE_SECONDS))
            else:
                return True

    async def _poll(self, open_jobs: Mapping[str, set[str]], states: dict[str, JobState | None]) -> None:
        """Note the jobs that have ended; a job without a record is gone."""
        for queue, waiting in open_jobs.items():
            job_ids = list(waiting)
            for first in range(0, len(job_ids), POLLED_TOGETHER):
                some = job_ids[first : first + POLLED_TOGETHER]
                for job_id, state in zip(some, await self._gateway.queues[queue].feed.states(some), strict=True):
                    if state is None or state.is_finished:
                        waiting.discard(job_id)
                        states[job_id] = state

    async def _cancel(self, open_jobs: Mapping[str, set[str]]) -> None:
        for queue, waiting in open_jobs.items():
            for job_id in waiting:
                with suppress(InvalidRequestError):
                    await self._gateway.queues[queue].client.cancel(job_id, "its batch has ended")

    async def _is_cancelled(self, batch: Batch) -> bool:
        return await self._unfinished.is_cancelled(batch.tenant, batch.id)

    async def _write_files(self, batch: Batch, ending: str) -> Batch:
        """Write the output and error files, in the order of the lines; return the batch at its end."""
        tokens, num_completed, num_failed = Tokens(), 0, 0
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            async for line in self._lines(batch):
                written, is_answer = await self._result_of(batch, line, ending, tokens)
                (output if is_answer else errors).write(written)
                num_completed, num_failed = num_completed + is_answer, num_failed + (not is_answer)
            output_id = await self._keep(batch, "output", output)
            error_id = await self._keep(batch, "error", errors)
        await self._gateway.guard.count(batch.key, batch.digest, tokens)
        counts = Counts(total=batch.counts.total, completed=num_completed, failed=num_failed)
        files = {"output_file_id": output_id, "error_file_id": error_id}
        return batch.moved(ending, counts=counts, usage=describe_usage(tokens), **files)

    async def _keep(self, batch: Batch, what: str, source: IO[bytes]) -> str | None:
        """Keep a file that has been written; None if it is empty."""
        if not source.tell():
            return None
        source.seek(0)
        name = f"{batch.id}_{what}.jsonl"
        file = await self._files.write(batch.tenant, f"file-{batch.job_prefix}-{what}", name, f"batch_{what}", source)
        return file.id

    async def _result_of(self, batch: Batch, line: Line, ending: str, tokens: Tokens) -> tuple[bytes, bool]:
        """Return a line of a file, and whether it is an answer."""
        line_id = f"{batch.job_prefix}-{line.number}"
        if line.order is None:
            return refusal_line(line_id, line.custom_id, line.refusal or ApiError(400, line.fault)), False
        answers = _answers_to(line.order, self._gateway)
        try:
            await answers.read_ends()
        except InvalidRequestError:  # it was never submitted
            return missing_line(line_id, line.custom_id, EXPIRED if ending == "expired" else CANCELLED), False
        except ApiError as error:
            _add(tokens, answers.tokens)
            states = {choice.record.state for choice in answers.choices if choice.record}
            if (ending != "completed" and JobState.CANCELLED in states) or JobState.EXPIRED in states:
                return missing_line(line_id, line.custom_id, CANCELLED if ending == "cancelled" else EXPIRED), False
            return refusal_line(line_id, line.custom_id, error), False
        _add(tokens, answers.tokens)
        return answer_line(line_id, line.custom_id, line.describe(answers)), True

    async def _lines(self, batch: Batch) -> AsyncIterator[Line]:
        """Yield the lines of the input file, each as jobs, the same each time."""
        source = await self._files.open(batch.tenant, batch.input_file_id)
        number = 0
        try:
            while raw := await self._files.call(lambda: list(islice(split(source), CHUNK_LINES))):
                for each in raw:
                    number += 1
                    yield read_line(batch, number, each, self._gateway.guard)
                await asyncio.sleep(0)
        finally:
            await asyncio.to_thread(source.close)


def _answers_to(order: Order, gateway: Gateway) -> Answers:
    queue = gateway.queues[order.preset.queue]
    return Answers(order, queue, [Choice(index, job.job_id, None) for index, job in enumerate(order.jobs)])


def _count(
    batch: Batch, num_refused: int, lines_of_jobs: Mapping[str, int], states: Mapping[str, JobState | None]
) -> Counts:
    """Return how many lines have ended: a line fails if one of its jobs does."""
    failed = {lines_of_jobs[job_id] for job_id, state in states.items() if state is not JobState.SUCCEEDED}
    num_open: dict[int, int] = {}
    for job_id, number in lines_of_jobs.items():
        num_open[number] = num_open.get(number, 0) + (job_id not in states)
    num_completed = sum(not still_open and number not in failed for number, still_open in num_open.items())
    return Counts(total=batch.counts.total, completed=num_completed, failed=len(failed) + num_refused)


def _add(total: Tokens, more: Tokens) -> None:
    for name in Tokens.__dataclass_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))


def _fault(message: str) -> dict[str, Any]:
    return {"code": "invalid_file", "message": message, "param": "input_file_id", "line": None}
