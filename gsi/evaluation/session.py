"""An evaluation from its options to its report: find or start a system, run the missing jobs, compute, write."""

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gsi.algorithm.methods import METHODS
from gsi.client.sdk import DEFAULT_REDIS_URL, AsyncClient
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.evaluation.figures import Row, compute_rows
from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.identity import describe_template, digest_problems, identify, refuse_other
from gsi.evaluation.plan import Plan, list_tasks, plan_rows
from gsi.evaluation.plots import write_plots
from gsi.evaluation.problems import Problem, load_problems
from gsi.evaluation.records import Evaluation, Identity, RecordedJob
from gsi.evaluation.report import build_report_json, write_report
from gsi.evaluation.runner import OnJob, list_done, run_missing
from gsi.jobs.connection import RedisAccess
from gsi.local.child_process import Report
from gsi.local.embedded_redis import is_free
from gsi.local.stack import local_stack
from gsi.runtime.machine import describe_machine, today

EMBEDDED_CONCURRENCY = 4  # three services share a laptop's cores
CONCURRENCY = 64  # elsewhere: enough to keep GPUs busy
OWN_SYSTEM = "a system of its own"
DEFAULT_PORT = 6379  # of DEFAULT_REDIS_URL


@dataclass(frozen=True, slots=True)
class System:
    """Where jobs are pushed. ``redis_url`` None: the system on this machine, or an embedded system if there is none."""

    redis_url: str | None = None
    queue: str = "default"
    engine: str | None = None  # of the embedded system
    models: Path | None = None  # of the embedded system: a folder with draft, target and prm
    concurrency: int | None = None  # jobs in the queue at once; None: the default
    is_own: bool = False  # start an embedded system, whatever runs
    is_merged: bool = False  # of the embedded system: one process serves target and PRM, which gsi merge wrote

    @property
    def is_embedded(self) -> bool:
        """Whether an embedded system is started for the evaluation: asked for, or no system runs on this machine."""
        return self.is_own or (self.redis_url is None and is_free(DEFAULT_PORT))

    @property
    def address(self) -> str:
        """Where jobs are pushed, without user and password."""
        if self.is_embedded:
            return OWN_SYSTEM
        url = urlsplit(self.redis_url or DEFAULT_REDIS_URL)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}, queue {self.queue}"

    def check(self) -> None:
        """Raise InvalidRequestError if models are asked for that the system would not have."""
        for name, value in (("models", self.models), ("engine", self.engine), ("merged", self.is_merged or None)):
            if value is not None and not self.is_embedded:
                raise InvalidRequestError(
                    f"{name}: {value} is not allowed with the running system {self.address}, which has its own models; "
                    "allowed: without it, or with --own-system, which starts another beside it"
                )

    @property
    def num_jobs(self) -> int:
        """How many jobs are in the queue at once."""
        return self.concurrency or (EMBEDDED_CONCURRENCY if self.is_embedded else CONCURRENCY)

    @asynccontextmanager
    async def client(self, report: Report) -> AsyncIterator[AsyncClient]:
        """Yield a client of the system. Raises MisconfiguredError if no coordinator works on the queue."""
        if not self.is_embedded:
            async with AsyncClient(self.redis_url or DEFAULT_REDIS_URL, self.queue) as client:
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
                Path(folder),
                report,
                models=self.models,
                engine=self.engine,
                queue=self.queue,
                is_merged=self.is_merged,
                settings=settings,
            )
            async with stack as running, AsyncClient(running.redis_url, self.queue, RedisAccess()) as client:
                yield client


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom an evaluation tells what happens. ``on_identity`` may raise, before any job of the evaluation runs."""

    on_event: Report = _ignore  # of a process of the embedded system
    on_identity: Callable[[Identity, str], None] = _ignore  # with the first prompt as rendered
    on_job: OnJob = _ignore
    retry_failed: bool = False  # whether jobs that failed are run again


NOBODY = Watch()


@dataclass(frozen=True, slots=True)
class FinishedEvaluation:
    """A finished evaluation and its report."""

    run: EvaluationRun
    jobs: list[RecordedJob]
    rows: list[Row]
    report: dict[str, Any]
    folder: Path


def begin(plan: Plan, folder: Folder, system: System) -> tuple[EvaluationRun, list[Problem]]:
    """Check everything that can be checked before a job is pushed; return the run, new or resumed, and its problems."""
    system.check()
    asked = plan_rows(plan)
    skipped: list[str] = []
    problems = load_problems(
        plan.dataset,
        plan.limit,
        plan.fields or None,
        system=plan.system,
        on_skip=None if plan.is_strict else skipped.append,
    )
    evaluation = Evaluation(
        dataset=Path(plan.dataset).name,
        problems=len(problems),
        labels=tuple(dict.fromkeys(row.label for row in asked)),
        ns=plan.ns,
        seeds=plan.seeds,
        concurrency=system.num_jobs,
        machine=describe_machine() if system.is_embedded else "a system that was running",
        date=today(),
        skipped=len(skipped),
    )
    run = folder.begin(plan, evaluation)
    _refuse_other_problems(run, problems, folder)
    return run, problems


def _refuse_other_problems(run: EvaluationRun, problems: Sequence[Problem], folder: Folder) -> None:
    """Raise InvalidRequestError if the data set has changed: also a finished evaluation is not reported then."""
    there = run.evaluation.identity
    if there is not None and folder.read_records():
        asked = {"dataset": digest_problems(problems), "template": describe_template(problems)}
        refuse_other(there, there.model_copy(update=asked), str(folder.path))


def count_jobs(run: EvaluationRun, problems: Sequence[Problem]) -> int:
    """Return how many jobs an evaluation has, finished ones included."""
    return sum(len(group) for group in list_tasks(run.plan, problems))


def count_done(folder: Folder, *, retry_failed: bool = False) -> int:
    """Return how many jobs need not be run: those on record; with ``retry_failed``, those with an answer."""
    return len(list_done(folder, retry_failed=retry_failed))


async def evaluate(
    run: EvaluationRun, problems: Sequence[Problem], folder: Folder, system: System, watch: Watch = NOBODY
) -> FinishedEvaluation:
    """Run the missing jobs, then write the report. If no job is missing, no system is needed.

    Raises InvalidRequestError that names the difference if the missing jobs would run on something else.
    """
    if count_done(folder, retry_failed=watch.retry_failed) < count_jobs(run, problems):
        async with system.client(watch.on_event) as client:
            asks_router = any(METHODS[row.params["method"]].asks_router for row in plan_rows(run.plan))
            identity, rendered = await identify(client, system.address, problems, asks_router=asks_router)
            watch.on_identity(identity, rendered)
            run = folder.identify(run, identity)
            concurrency = run.evaluation.concurrency
            await run_missing(
                client,
                run,
                problems,
                folder,
                concurrency=concurrency,
                on_job=watch.on_job,
                retry_failed=watch.retry_failed,
            )
    return finish(run, folder)


def finish(run: EvaluationRun, folder: Folder) -> FinishedEvaluation:
    """Compute every figure from the records alone, and write report and plots into the folder."""
    jobs = folder.read_records()
    found = compute_rows(run.evaluation, jobs)
    plots = write_plots(run.evaluation, jobs, found, folder.path)
    report = build_report_json(run.evaluation, jobs, found)
    markdown = write_report(run.evaluation, jobs, found, [Path(plot.name) for plot in plots])
    (folder.path / "report.md").write_text(markdown)
    (folder.path / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return FinishedEvaluation(run, jobs, found, report, folder.path)
