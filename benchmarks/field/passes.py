"""Passes over the same problems, with fresh random numbers each.

Two are timed, over few problems: one job at a time, and at full load. A third is not timed, over more problems: it only
counts what is right and what is written, so that it may run on a machine that others use as well.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.field.figures import Field, make_field
from benchmarks.field.methods import list_labels
from benchmarks.methods import OUT
from gsi.cli.evaluate import run_with_progress
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.session import System

FULL_LOAD = 16  # jobs in the queue at once: services of two cores gain nothing from more


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked: ``timed`` problems in each round of a timed pass, ``untimed`` problems once; 0: no such pass.

    In a round every row answers all problems, one row after the other: so a slow hour of the machine affects all rows.
    """

    timed: int
    untimed: int
    rounds: int = 1
    ns: tuple[int, ...] = (1, 4, 16)


FULL = Size(timed=12, untimed=40)
QUICK = Size(timed=2, untimed=0)


def measure(size: Size, out: Path = OUT) -> Field:
    """Run what is missing of each pass, each in a system that is started for it; return the figures."""
    untimed: list[RecordedJob] = []
    if size.untimed:
        untimed = _run_pass("untimed", size.ns, out, size.untimed, 1, FULL_LOAD, 2 * size.rounds).read_records()
    alone = _run_pass("alone", size.ns, out, size.timed, size.rounds, 1, 0)
    loaded = _run_pass("loaded", size.ns, out, size.timed, size.rounds, FULL_LOAD, size.rounds)
    return make_field(alone.read_run().evaluation, alone.read_records(), loaded.read_records(), untimed)


def _run_pass(
    name: str, ns: tuple[int, ...], out: Path, problems: int, rounds: int, concurrency: int, seed_offset: int
) -> Folder:
    plan = Plan(
        dataset="arithmetic", methods=list_labels(), ns=ns, seeds=rounds, seed_offset=seed_offset, limit=problems
    )
    folder = Folder(out / f"field-{name}-{plan.name}")
    run_with_progress(plan, folder, System(engine="transformers", concurrency=concurrency, is_own=True))
    return folder


def estimate_hours(field: Field, size: Size) -> float:
    """Return how long a run of this size takes, by the seconds of another one, without the start of the systems."""
    alone = sum(row.seconds_alone.value for row in field.rows if row.seconds_alone)
    loaded = sum(row.seconds_loaded or 0.0 for row in field.rows)
    return (size.timed * size.rounds * (alone + loaded) + size.untimed * loaded) / 3600
