"""A finished job of an evaluation, one line of JSONL: what every figure is computed from, without a model.

A record is the job's result (``gsi/jobs/result_document.py``) with its problem and its grades. Its steps have the
schema of the step stream (``gsi/jobs/step_record.py``), where numbers that are not finite are strings.
"""

from collections.abc import Mapping
from typing import Any

from gsi.jobs.result_document import ResultDocument
from gsi.jobs.step_record import Record

TaskKey = tuple[str, int, int, str]  # label, n, seed, problem: names a task in its evaluation


class RecordedModel(Record):
    """The model of one role. ``num_parameters`` is None, a text is "" where the service does not tell it."""

    model: str
    revision: str = ""
    engine: str = ""
    engine_version: str = ""
    dtype: str = ""
    checkpoint_fingerprint: str = ""  # what it covers: gsi/engines/hugging_face/fingerprint.py
    num_parameters: int | None = None
    num_speculative_tokens: int = 0  # that the engine drafts by itself
    reading: str = ""  # of a PRM: "authors", or the profile that was named


class RecordedJob(ResultDocument):
    """A finished job with its problem and its grades."""

    problem: str  # its id in the data set
    prompt: str
    expected: str
    level: str | None = None  # of the problem, where the data set names it
    subject: str | None = None
    label: str  # the method as it was asked for: "rsd:binary=0.7"
    n: int
    seed: int  # 0, 1, … of the evaluation; the job's own is in ``params``
    is_correct: bool  # False of a job that did not succeed, which no figure counts as an answer
    is_correct_strict: bool
    params: Mapping[str, Any]  # every parameter that was in force: method, beta, acceptance_threshold, …
    models: Mapping[str, RecordedModel] = {}  # by role: draft, target, prm

    @property
    def key(self) -> TaskKey:
        return (self.label, self.n, self.seed, self.problem)


class Identity(Record):
    """What the jobs of an evaluation ran on. Digests are SHA-256 in hexadecimal; an unknown text is ""."""

    system: str  # address and queue, without a password
    models: Mapping[str, RecordedModel]  # by role
    dataset: str  # digest of the problems: prompts, system messages, expected answers
    template: str  # the system message of the prompts
    code: str  # of this process, which renders and grades
    coordinator_code: str  # of the coordinator that answered first
    router: str = ""  # digest of the router's file, where a row asks a router


class Evaluation(Record):
    """What an evaluation was asked for, and under which conditions it ran."""

    dataset: str
    problems: int
    labels: tuple[str, ...]
    ns: tuple[int, ...]
    seeds: int
    concurrency: int  # jobs in the queue or in flight at once
    machine: str
    date: str
    skipped: int = 0  # rows of the data set without an answer
    identity: Identity | None = None  # None until the system is known
