"""An evaluation on disk: what was asked for, and a line for each finished job. A later run resumes from it.

| file            | holds |
|-----------------|-------|
| run.json        | the plan, the id of the run, its conditions, and what it measures (its identity) |
| records.jsonl   | a job per line, in the order in which the jobs finished |
| report.md, report.json, *.png | the report, computed from the records alone |
"""

import os
import secrets
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ValidationError

from gsi.errors import InvalidRequestError
from gsi.evaluation.identity import refuse_other
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import Evaluation, Identity, RecordedJob, TaskKey
from gsi.jobs.state import JobState


class EvaluationRun(BaseModel):
    """What was asked for, and under which id: the first file that is written."""

    id: str  # part of the ids of its jobs: two runs never share a job
    plan: Plan
    evaluation: Evaluation


class Folder:
    """The folder of one evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[RecordedJob] | None = None  # read once: they are a hundred megabytes and more

    @property
    def records_path(self) -> Path:
        return self.path / "records.jsonl"

    def begin(self, plan: Plan, evaluation: Evaluation) -> EvaluationRun:
        """Return the run to resume, or a new run if the folder has none.

        Raises InvalidRequestError if the folder holds the run of another plan.
        """
        path = self.path / "run.json"
        if path.exists():
            run = self.read_run()
            if run.plan != plan:
                raise InvalidRequestError(
                    f"out: {self.path} holds another evaluation ({_describe_difference(run.plan, plan)}); "
                    "allowed: the options it was started with, or another folder"
                )
            return run
        self.path.mkdir(parents=True, exist_ok=True)
        run = EvaluationRun(id=secrets.token_hex(6), plan=plan, evaluation=evaluation)
        self._write_run(run)
        return run

    def identify(self, run: EvaluationRun, identity: Identity) -> EvaluationRun:
        """Return the run with its identity, which a folder without records takes from its next jobs.

        Raises InvalidRequestError that names what differs from the identity of the folder's records.
        """
        if not self.read_records():
            evaluation = run.evaluation.model_copy(update={"identity": identity})
            run = run.model_copy(update={"evaluation": evaluation})
            self._write_run(run)
        refuse_other(run.evaluation.identity, identity, str(self.path))
        return run

    def _write_run(self, run: EvaluationRun) -> None:
        path = self.path / "run.json"
        draft = path.with_suffix(".part")  # so that a crash leaves the whole file or none
        draft.write_text(run.model_dump_json(indent=2) + "\n")
        draft.replace(path)

    def read_run(self) -> EvaluationRun:
        """Return what was asked for. Raises InvalidRequestError if the folder holds no evaluation."""
        try:
            return EvaluationRun.model_validate_json((self.path / "run.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidRequestError(
                f"{self.path / 'run.json'}: cannot be read ({_first_line(error)}); "
                "allowed: a folder that gsi eval wrote"
            ) from None

    def read_records(self) -> list[RecordedJob]:
        """Return the finished jobs. A last line that a crash has cut is dropped: its job runs again.

        Of a task that was run again, because its job failed, the last job is returned. Raises InvalidRequestError that
        names a line that is not a record.
        """
        return list({job.key: job for job in self._read_all()}.values())

    def count_failed(self) -> Counter[TaskKey]:
        """Return how many jobs of each task have failed, those that were run again included."""
        return Counter(job.key for job in self._read_all() if job.state is not JobState.SUCCEEDED)

    def _read_all(self) -> list[RecordedJob]:
        if self._records is None:
            self._records = self._read_file()
        return self._records

    def _read_file(self) -> list[RecordedJob]:
        if not self.records_path.exists():
            return []
        whole, _, cut = self.records_path.read_bytes().rpartition(b"\n")
        if cut:
            with self.records_path.open("r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)
        return [self._read_record(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def _read_record(self, number: int, line: bytes) -> RecordedJob:
        try:
            return RecordedJob.from_json(line)
        except ValidationError as error:
            raise InvalidRequestError(
                f"{self.records_path} line {number}: not a record ({_first_line(error)})"
            ) from None

    def append(self, record: RecordedJob) -> None:
        """Write a finished job, and return when it is on the disk."""
        with self.records_path.open("ab") as file:
            file.write(record.to_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if self._records is not None:
            self._records.append(record)


def _describe_difference(there: Plan, here: Plan) -> str:
    names = [name for name in Plan.model_fields if getattr(there, name) != getattr(here, name)]
    return "; ".join(f"{name}: {getattr(there, name)} there, {getattr(here, name)} here" for name in names)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
