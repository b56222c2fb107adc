"""An evaluation from its options to its report: find or start a system, run what is missing, compute, write."""

import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsi.client.sdk import DEFAULT_REDIS_URL, Client
from gsi.errors import MisconfiguredError
from gsi.evaluation.figures import Row, rows
from gsi.evaluation.folder import Folder, Run
from gsi.evaluation.plan import Plan, tasks
from gsi.evaluation.plan import rows as planned_rows
from gsi.evaluation.plots import draw
from gsi.evaluation.problems import Problem, load_problems
from gsi.evaluation.records import Evaluation, RecordedJob
from gsi.evaluation.report import to_json, to_markdown
from gsi.evaluation.runner import OnJob, run_missing
from gsi.jobs.connection import RedisAccess
from gsi.local.child_process import Report
from gsi.local.embedded_redis import is_free
from gsi.local.stack import local_stack
from gsi.runtime.machine import describe_machine, today

EMBEDDED_CONCURRENCY = 4  # three services share a laptop's cores
CONCURRENCY = 64  # elsewhere: enough to keep GPUs busy
DEFAULT_PORT = 6379  # of DEFAULT_REDIS_URL


@dataclass(frozen=True, slots=True)
class System:
    """Where jobs are pushed. ``redis_url`` None: whatever runs here, or else an embedded system of our own."""

    redis_url: str | None = None
    queue: str = "default"
    engine: str | None = None  # of the embedded system
    models: Path | None = None  # as above: a folder of draft, target and prm
    concurrency: int | None = None  # jobs in the queue at once

    @property
    def is_embedded(self) -> bool:
        """Whether nothing runs here, so that a system is started for the time being."""
        return self.redis_url is None and is_free(DEFAULT_PORT)

    @property
    def num_jobs(self) -> int:
        return self.concurrency or (EMBEDDED_CONCURRENCY if self.is_embedded else CONCURRENCY)

    @asynccontextmanager
    async def client(self, report: Report) -> AsyncIterator[Client]:
        """Yield a client of the system. Raises MisconfiguredError if no coordinator works on the queue."""
        if not self.is_embedded:
            async with Client(self.redis_url or DEFAULT_REDIS_URL, self.queue) as client:
                if not await client.is_served():
                    raise MisconfiguredError(
                        f"no coordinator has read queue {self.queue} of this Redis: start one (gsi up), "
                        "or name another with --redis-url"
                    )
                yield client
            return
        settings = {"GSI_COORDINATOR_MAX_JOBS": str(self.num_jobs)}
        with tempfile.TemporaryDirectory(prefix="gsi-eval-") as folder:
            stack = local_stack(
                Path(folder), report, models=self.models, engine=self.engine, queue=self.queue, settings=settings
            )
            async with stack as running, Client(running.redis_url, self.queue, RedisAccess()) as client:
                yield client


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished evaluation and its report."""

    run: Run
    jobs: list[RecordedJob]
    rows: list[Row]
    report: dict[str, Any]
    folder: Path


def begin(plan: Plan, folder: Folder, system: System) -> tuple[Run, list[Problem]]:
    """Check everything that can be checked before a job is pushed; return the run to go on with, and its problems."""
    asked = planned_rows(plan)
    problems = load_problems(plan.dataset, plan.limit, plan.fields or None)
    evaluation = Evaluation(
        dataset=Path(plan.dataset).name,
        problems=len(problems),
        labels=tuple(dict.fromkeys(row.label for row in asked)),
        ns=plan.ns,
        seeds=plan.seeds,
        concurrency=system.num_jobs,
        machine=describe_machine() if system.is_embedded else "a system that was running",
        date=today(),
    )
    return folder.begin(plan, evaluation), problems


def num_jobs(run: Run, problems: Sequence[Problem]) -> int:
    return sum(len(group) for group in tasks(run.plan, problems))


async def evaluate(
    run: Run, problems: Sequence[Problem], folder: Folder, system: System, report: Report, on_job: OnJob
) -> Outcome:
    """Run what is missing, then write the report. Where nothing is missing no system is needed."""
    if len(folder.records()) < num_jobs(run, problems):
        async with system.client(report) as client:
            await run_missing(client, run, problems, folder, concurrency=run.evaluation.concurrency, on_job=on_job)
    return write_report(run, folder)


def write_report(run: Run, folder: Folder) -> Outcome:
    """Compute every figure from the records alone and write report and plots beside them."""
    jobs = folder.records()
    found = rows(run.evaluation, jobs)
    plots = draw(run.evaluation, jobs, found, folder.path)
    report = to_json(run.evaluation, jobs, found)
    markdown = to_markdown(run.evaluation, jobs, found, [Path(plot.name) for plot in plots])
    (folder.path / "report.md").write_text(markdown)
    (folder.path / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return Outcome(run, jobs, found, report, folder.path)
