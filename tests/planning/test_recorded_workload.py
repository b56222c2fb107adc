"""What jobs were like is read off the records of an evaluation, and set beside what the planner says."""

import pytest

from benchmarks.plan import TRANSFORMERS, describe_workload, predict_rows
from gsi.algorithm.candidates import Outcome, Source
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.phases import Model, Processor
from gsi.runtime.installation import SHIPPED_MODELS
from tests.evaluation.made_records import candidate, job, proposal, step

TOKENIZER = Tokenizer(str(SHIPPED_MODELS / "draft"), None)
DRAFTED = proposal(Source.DRAFT, candidate(4), candidate(6), candidate(6), candidate(8))
JOBS = [
    job(steps=[step(DRAFTED), step(DRAFTED)]),
    job(
        problem="p1",
        steps=[
            step(
                DRAFTED,
                proposal(Source.TARGET, *[candidate(5)] * 4),
                source=Source.TARGET,
                outcome=Outcome.RESAMPLED,
            ),
            step(DRAFTED),
        ],
    ),
]


def test_lengths_and_acceptance_come_from_the_candidates() -> None:
    """Means over the steps, and the shortest, the longest, the last and the ends of each proposal."""
    work = describe_workload(JOBS, TOKENIZER)
    assert (work.n, work.num_steps, work.shortest, work.longest) == (4, 2.0, 4.0, 8.0)
    assert work.mean == pytest.approx(6.0)
    assert (work.num_last, work.num_ends) == (1.0, 3.0)
    assert work.acceptance["gsi"] == 0.75
    assert work.prompt_tokens > len("How much?") / 4


def test_a_row_has_what_was_measured_and_what_is_planned() -> None:
    """The error is of the seconds an answer, which were two; a method that the planner does not know has no row."""
    roles: tuple[Role, ...] = ("draft", "target", "prm")
    models = {
        role: Model(
            role,
            find_architecture(role, str(SHIPPED_MODELS / role)),
            Processor(1e10, float("inf"), 0.001),
        )
        for role in roles
    }
    (row,) = predict_rows([*JOBS, job(label="beam-search", steps=JOBS[0].steps)], models, TRANSFORMERS, TOKENIZER)
    assert (row["method"], row["n"], row["seconds_per_answer"], row["seconds_per_step"]) == ("gsi", 4, 2.0, 0.5)
    assert row["predicted_seconds_per_answer"] == pytest.approx(2 * row["predicted_seconds_per_step"])
    assert row["relative_error"] == pytest.approx(row["predicted_seconds_per_answer"] / 2 - 1)
