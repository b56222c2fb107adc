"""A finished job of an evaluation, one line of JSONL: what every figure is computed from, without a model.

A record is the job's result (``gsi/jobs/result_document.py``) with its problem and its grades. Its steps have the
schema of the step stream (``gsi/jobs/step_record.py``), where numbers that are not finite are strings.
"""

from collections.abc import Mapping
from typing import Any

from gsi.jobs.result_document import ResultDocument
from gsi.jobs.step_record import Record


class RecordedModel(Record):
    """The model of one role. ``num_parameters`` is None where the engine does not know it."""

    model: str
    engine: str = ""
    num_parameters: int | None = None
    num_speculative_tokens: int = 0  # that the engine drafts by itself


class RecordedJob(ResultDocument):
    """A finished job with its problem and its grades."""

    problem: str  # its id in the data set
    prompt: str
    expected: str
    label: str  # the method as it was asked for: "rsd:binary=0.7"
    n: int
    seed: int  # 0, 1, … of the evaluation; the job's own is in ``params``
    is_correct: bool
    is_correct_strict: bool
    params: Mapping[str, Any]  # every parameter that was in force: method, beta, acceptance_threshold, …
    models: Mapping[str, RecordedModel] = {}  # by role: draft, target, prm


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
