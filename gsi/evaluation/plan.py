"""What an evaluation runs: every problem with every seed by every method at every n."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict

from gsi.algorithm.methods import METHODS
from gsi.algorithm.seeds import derive_seed
from gsi.errors import InvalidRequestError
from gsi.evaluation.problems import Problem
from gsi.evaluation.records import TaskKey
from gsi.jobs.job import parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.method_spec import parse_method
from gsi.jobs.payload import JobPayload

MAX_SEEDS = 1000
MAX_SEED_OFFSET = 10**6


class Plan(BaseModel):
    """What was asked for. Two evaluations of equal plans run the same jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    fields: dict[str, str] = {}  # of a JSONL file: which of its fields is the problem, the answer, …
    limit: int | None = None
    methods: tuple[str, ...]  # as written: name, or name:option
    ns: tuple[int, ...]
    seeds: int
    seed_offset: int = 0  # the first seed; plans whose seeds do not overlap run fresh random numbers
    system: str | None = None  # the system message of all prompts; None: the data set's; "": none
    is_strict: bool = False  # refuse a data set in which a row has no answer
    params: dict[str, Any] = {}  # of every job; the options of a method take precedence

    @property
    def name(self) -> str:
        """Return a name that equal plans share."""
        stem = "".join(c if c.isalnum() else "-" for c in self.dataset.rpartition("/")[2].removesuffix(".jsonl"))
        return f"{stem}-{_digest(self.model_dump_json())[:8]}"


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A method at one n, with the parameters of its jobs."""

    label: str
    n: int
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One job of an evaluation."""

    row: PlannedRow
    seed: int
    problem: Problem

    @property
    def key(self) -> TaskKey:
        """Return what identifies the task in its evaluation."""
        return (self.row.label, self.row.n, self.seed, self.problem.id)

    def payload(self, run_id: str, num_failed: int = 0) -> JobPayload:
        """Return the job to push. Its id is derived from the task, so pushing it twice runs it once.

        After ``num_failed`` jobs of the task that failed it has another id: their results may still be there.

        A problem has the same job seed in every method, so that methods are compared on the same random numbers.
        """
        params = {**self.row.params, "seed": derive_seed("evaluation", self.problem.id, self.seed)}
        return parse_payload(
            {
                "id": f"eval-{run_id}-{_digest(repr(self.key))}" + (f"-{num_failed}" if num_failed else ""),
                "prompt": self.problem.prompt,
                "system": self.problem.system,
                "params": {**params, "keep_candidates": True},
            }
        )


def plan_rows(plan: Plan) -> list[PlannedRow]:
    """Return the rows in the order asked for. Raises InvalidRequestError that names the option at fault."""
    if not plan.methods:
        raise InvalidRequestError(f"methods: none; allowed: {', '.join(METHODS)}, each with options behind colons")
    if not 1 <= plan.seeds <= MAX_SEEDS:
        raise InvalidRequestError(f"seeds: {plan.seeds} is not allowed; allowed: 1 to {MAX_SEEDS}")
    if not 0 <= plan.seed_offset <= MAX_SEED_OFFSET:
        raise InvalidRequestError(f"seed_offset: {plan.seed_offset} is not allowed; allowed: 0 to {MAX_SEED_OFFSET}")
    if not plan.ns:
        raise InvalidRequestError("n: none; allowed: whole numbers from 1 to 256")
    found: dict[tuple[str, int], PlannedRow] = {}
    for label, n in product(plan.methods, plan.ns):
        row = _plan_row(label, n, plan.params)
        found.setdefault((label, row.n), row)
    return list(found.values())


def list_tasks(plan: Plan, problems: Sequence[Problem]) -> Iterator[list[Task]]:
    """Yield the jobs that run at the same time: all problems of one row and one seed.

    Rows take turns, seed by seed, so that a busy moment of the machine affects all rows alike.
    """
    for seed, row in product(range(plan.seed_offset, plan.seed_offset + plan.seeds), plan_rows(plan)):
        yield [Task(row, seed, problem) for problem in problems]


def _plan_row(label: str, n: int, shared: Mapping[str, Any]) -> PlannedRow:
    own = parse_method(label, list(JobParams.model_fields))
    if "seed" in {*own, *shared}:
        raise InvalidRequestError("params.seed: an evaluation gives every job its own; allowed: --seeds N")
    if "n" not in METHODS[own["method"]].parameters:
        n = 1
    params = {**shared, **({} if "n" in shared else {"n": n}), **own}
    checked = parse_payload({"prompt": "-", "params": params}).params
    return PlannedRow(label, checked.n, params)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
