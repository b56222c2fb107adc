"""Runs the missing jobs of an evaluation through the queue, and writes each job to disk as it finishes."""

import asyncio
from collections.abc import Callable, Sequence

from gsi.algorithm.parts import run_all
from gsi.client.sdk import Client
from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.identity import refuse_stranger
from gsi.evaluation.plan import Task, list_tasks
from gsi.evaluation.problems import Problem
from gsi.evaluation.records import RecordedJob
from gsi.grading.equality import EqualityChecker
from gsi.grading.graders import grade_with

OnJob = Callable[[str, RecordedJob], None]  # (the row, a job of the row that has just been written)


async def run_missing(
    client: Client, run: EvaluationRun, problems: Sequence[Problem], folder: Folder, *, concurrency: int, on_job: OnJob
) -> None:
    """Run every job of the plan that has no record, at most ``concurrency`` in the queue at once.

    A job that ends without an answer is recorded: it counts as wrong, and the report lists it.
    """
    done = {(record.label, record.n, record.seed, record.problem) for record in folder.read_records()}
    async with EqualityChecker() as checker:
        for group in list_tasks(run.plan, problems):
            missing = [task for task in group if task.key not in done]
            slots = asyncio.Semaphore(concurrency)

            async def finish(task: Task, slots: asyncio.Semaphore = slots) -> None:
                async with slots:
                    record = await _run_task(client, run, task, checker)
                try:
                    refuse_stranger(run.evaluation.identity, record)
                    folder.append(record)
                finally:
                    await client.forget(record.id)  # it is on disk; or its id would give the stranger's answer again
                on_job(f"{task.row.label}, n = {task.row.n}, seed {task.seed}", record)

            await run_all([finish(task) for task in missing])


async def _run_task(client: Client, run: EvaluationRun, task: Task, checker: EqualityChecker) -> RecordedJob:
    payload = task.payload(run.id)
    record = await client.wait(await client.submit(payload))
    problem, fields = task.problem, record.to_dict()
    grade = await grade_with(checker, fields["text"], fields["answer"], problem.expected, problem.kind)
    return RecordedJob.model_validate(
        {
            **fields,
            "problem": problem.id,
            "prompt": problem.prompt,
            "expected": problem.expected,
            "label": task.row.label,
            "n": task.row.n,
            "seed": task.seed,
            "is_correct": grade.is_correct,
            "is_correct_strict": grade.is_correct_strict,
            "params": fields["params"] or payload.params.model_dump(mode="json"),
            "models": fields["models"] or {},
        }
    )
