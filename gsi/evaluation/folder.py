"""An evaluation on disk: what was asked for, and a line for each finished job. What a later run goes on from.

| file            | holds |
|-----------------|-------|
| run.json        | the plan, the id of the run, and its conditions |
| records.jsonl   | a job a line, in the order in which they finished |
| report.md, report.json, *.png | written at the end, from the records alone |
"""

import os
import secrets
from pathlib import Path

from pydantic import BaseModel, ValidationError

from gsi.errors import InvalidRequestError
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import Evaluation, RecordedJob


class Run(BaseModel):
    """The first thing that is written."""

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

    def begin(self, plan: Plan, evaluation: Evaluation) -> Run:
        """Return the run to go on with: the one that is here, or a new one.

        Raises InvalidRequestError if another plan's is here.
        """
        path = self.path / "run.json"
        if path.exists():
            run = self.run()
            if run.plan != plan:
                raise InvalidRequestError(
                    f"out: {self.path} holds another evaluation ({_difference(run.plan, plan)}); "
                    "allowed: the options it was started with, or another folder"
                )
            return run
        self.path.mkdir(parents=True, exist_ok=True)
        run = Run(id=secrets.token_hex(6), plan=plan, evaluation=evaluation)
        _write_at_once(path, run.model_dump_json(indent=2) + "\n")
        return run

    def run(self) -> Run:
        """Return what was asked for. Raises InvalidRequestError if no evaluation is here."""
        try:
            return Run.model_validate_json((self.path / "run.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidRequestError(
                f"{self.path / 'run.json'}: cannot be read ({_reason(error)}); allowed: a folder that gsi eval wrote"
            ) from None

    def records(self) -> list[RecordedJob]:
        """Return the finished jobs. A last line that was cut by a crash is dropped: its job runs again.

        Raises InvalidRequestError that names a line which is no record.
        """
        if self._records is None:
            self._records = self._read()
        return list(self._records)

    def _read(self) -> list[RecordedJob]:
        if not self.records_path.exists():
            return []
        whole, _, cut = self.records_path.read_bytes().rpartition(b"\n")
        if cut:
            with self.records_path.open("r+b") as file:
                file.truncate(len(whole) + 1 if whole else 0)
        return [self._record(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def _record(self, number: int, line: bytes) -> RecordedJob:
        try:
            return RecordedJob.model_validate_json(line)
        except ValidationError as error:
            raise InvalidRequestError(f"{self.records_path} line {number}: not a record ({_reason(error)})") from None

    def append(self, record: RecordedJob) -> None:
        """Write a finished job, and return when it is on the disk."""
        with self.records_path.open("ab") as file:
            file.write(record.to_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if self._records is not None:
            self._records.append(record)


def _write_at_once(path: Path, text: str) -> None:
    """Write a file that a crash leaves whole or not at all."""
    draft = path.with_suffix(".part")
    draft.write_text(text)
    draft.replace(path)


def _difference(one: Plan, other: Plan) -> str:
    names = [name for name in Plan.model_fields if getattr(one, name) != getattr(other, name)]
    return "; ".join(f"{name}: {getattr(one, name)} there, {getattr(other, name)} here" for name in names)


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0]
