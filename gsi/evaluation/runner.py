"""Runs the missing jobs of an evaluation through the queue, and writes each job to disk as it finishes."""

import asyncio
from collections.abc import Callable, Sequence

from gsi.algorithm.parts import run_all
from gsi.client.sdk import AsyncClient
from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.identity import refuse_stranger
from gsi.evaluation.plan import Task, list_tasks
from gsi.evaluation.problems import Problem
from gsi.evaluation.records import RecordedJob, TaskKey
from gsi.grading.equality import EqualityChecker
from gsi.grading.graders import grade_with
from gsi.jobs.payload import JobPayload
from gsi.jobs.state import JobState

OnJob = Callable[[str, RecordedJob], None]  # (the row, a job of the row that has just been written)


def list_done(folder: Folder, *, retry_failed: bool) -> set[TaskKey]:
    """Return the tasks that need not be run: those with a record; with ``retry_failed``, with an answer."""
    records = folder.read_records()
    return {record.key for record in records if record.state is JobState.SUCCEEDED or not retry_failed}


async def run_missing(
    client: AsyncClient,
    run: EvaluationRun,
    problems: Sequence[Problem],
    folder: Folder,
    *,
    concurrency: int,
    on_job: OnJob,
    retry_failed: bool = False,
) -> None:
    """Run every job of the plan that has no record (or has failed), at most ``concurrency`` in the queue at once.

    A job that ends without an answer is recorded, and the report lists it. It is no wrong answer.
    """
    done, num_failed = list_done(folder, retry_failed=retry_failed), folder.count_failed()
    async with EqualityChecker() as checker:
        for group in list_tasks(run.plan, problems):
            missing = [task for task in group if task.key not in done]
            slots = asyncio.Semaphore(concurrency)

            async def finish(task: Task, slots: asyncio.Semaphore = slots) -> None:
                async with slots:
                    record = await _run_task(client, task, task.payload(run.id, num_failed[task.key]), checker)
                try:
                    refuse_stranger(run.evaluation.identity, record)
                    folder.append(record)
                finally:
                    await client.forget(record.id)  # it is on disk; or its id would give the stranger's answer again
                on_job(f"{task.row.label}, n = {task.row.n}, seed {task.seed}", record)

            await run_all([finish(task) for task in missing])


async def _run_task(client: AsyncClient, task: Task, payload: JobPayload, checker: EqualityChecker) -> RecordedJob:
    record = await client.wait(await client.submit(payload))
    problem, fields = task.problem, record.to_dict()
    grade = await grade_with(checker, fields["text"], fields["answer"], problem.expected, problem.kind)
    return RecordedJob.model_validate(
        {
            **fields,
            "problem": problem.id,
            "prompt": problem.prompt,
            "expected": problem.expected,
            "level": problem.level,
            "subject": problem.subject,
            "label": task.row.label,
            "n": task.row.n,
            "seed": task.seed,
            "is_correct": grade.is_correct,
            "is_correct_strict": grade.is_correct_strict,
            "params": fields["params"] or payload.params.model_dump(mode="json"),
            "models": fields["models"] or {},
        }
    )
