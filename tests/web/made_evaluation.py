"""A folder as ``gsi eval`` leaves it: made jobs, and the report and plots that the program computes of them."""

from pathlib import Path

from gsi.evaluation.folder import EvaluationRun, Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.session import finish
from tests.evaluation.made_records import accepted_step, evaluation, job, resampled_step

LABELS = ("gsi", "rsd", "soft-best-of-n:target")
NUM_PROBLEMS = 12


def make_jobs() -> list[RecordedJob]:
    """Return a job of each method for each problem: gsi is right in 9 of 12, rsd in 6, the target in 10."""
    right = dict(zip(LABELS, (9, 6, 10), strict=True))
    return [
        job(
            f"p{number}",
            label=label,
            is_correct=number < right[label],
            steps=(accepted_step(), resampled_step() if number % 3 == 0 else accepted_step()),
        )
        for label in LABELS
        for number in range(NUM_PROBLEMS)
    ]


def write_evaluation(path: Path, *, is_finished: bool = True) -> None:
    """Write the folder of an evaluation, with its report if it has finished."""
    folder = Folder(path)
    plan = Plan(dataset="arithmetic", methods=LABELS, ns=(4,), seeds=1, params={"beta": 20.0})
    run: EvaluationRun = folder.begin(plan, evaluation(LABELS, problems=NUM_PROBLEMS))
    if is_finished:
        folder.records_path.write_text("".join(f"{each.to_json()}\n" for each in make_jobs()))
        finish(run, folder)
