"""Two passes over the same problems, with fresh random numbers each: one job at a time, and at full load."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.field.figures import Field, FieldRow, make_field
from benchmarks.field.methods import list_labels
from benchmarks.methods import OUT
from gsi.cli.evaluate import run_with_progress
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.session import System

FULL_LOAD = 16  # jobs in the queue at once: services of two cores gain nothing from more


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked: each pass answers so many problems in so many rounds.

    In a round every row answers all problems, one row after the other: so a slow hour of the machine affects all rows.
    """

    problems: int
    rounds: int = 1
    ns: tuple[int, ...] = (1, 4, 16)


FULL = Size(problems=20, rounds=2)
QUICK = Size(problems=2)


def measure(size: Size, out: Path = OUT) -> Field:
    """Run what is missing of both passes, each in a system that is started for it; return the figures."""
    alone = _run_pass("alone", size, out, concurrency=1, seed_offset=0)
    loaded = _run_pass("loaded", size, out, concurrency=FULL_LOAD, seed_offset=size.rounds)
    return make_field(alone.read_run().evaluation, alone.read_records(), loaded.read_records())


def _run_pass(name: str, size: Size, out: Path, *, concurrency: int, seed_offset: int) -> Folder:
    plan = Plan(
        dataset="arithmetic",
        methods=list_labels(),
        ns=size.ns,
        seeds=size.rounds,
        seed_offset=seed_offset,
        limit=size.problems,
    )
    folder = Folder(out / f"field-{name}-{plan.name}")
    run_with_progress(plan, folder, System(engine="transformers", concurrency=concurrency, is_own=True))
    return folder


def estimate_hours(field: Field, size: Size) -> float:
    """Return how long a run of this size takes, by the seconds of another one, without the start of the systems."""
    seconds = sum(_seconds_per_problem(row) for row in field.rows)
    return size.problems * size.rounds * seconds / 3600


def _seconds_per_problem(row: FieldRow) -> float:
    alone = row.seconds_alone.value if row.seconds_alone else 0.0
    return alone + (row.seconds_loaded or 0.0)
