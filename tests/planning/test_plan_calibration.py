"""``gsi plan --calibration``: shares that were measured, out of what ``gsi calibrate`` wrote."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gsi.algorithm.candidates import Outcome, Source
from gsi.cli.main import app
from gsi.cli.plan_quantities import read_calibration
from gsi.errors import InvalidRequestError
from gsi.evaluation.figures import compute_rows
from gsi.evaluation.folder import Folder
from gsi.evaluation.method_choice import CostKind, build_method_choice_json, choose_method
from gsi.evaluation.plan import Plan
from gsi.evaluation.planned import measure
from gsi.evaluation.records import RecordedJob
from gsi.jobs.step_record import BranchRecord, JudgementRecord, StepRecord
from gsi.planning.quantities import Given, Quantity
from tests.evaluation.made_records import accepted_step, candidate, evaluation, job, proposal, resampled_step, step
from tests.planning.test_plan_command import plan, plan_json

RULE: dict[str, Any] = {"n_rule": {"name": "pandora", "cost": 0.01, "delta": 0.05}}


def judged(*judges: Source, outcome: Outcome = Outcome.ACCEPTED) -> StepRecord:
    """Return a step that these models have judged."""
    made = step(proposal(Source.DRAFT, candidate()), outcome=outcome)
    judgements = tuple(
        JudgementRecord(source=judge, probabilities=(0.1, 0.9), score=1.0, num_tokens=41) for judge in judges
    )
    return made.model_copy(update={"judgements": judgements})


def written(role: Source, num_tokens: int) -> StepRecord:
    """Return a step for which so many tokens were written."""
    return step(proposal(role, candidate(num_tokens)), source=role)


def make_jobs(label: str, steps: Sequence[StepRecord], n: int = 16, **params: Any) -> list[RecordedJob]:
    """Return two jobs with these steps."""
    method = label.partition(":")[0]
    made = [
        job(f"p{i}", label=label, n=n, is_correct=True, steps=list(steps), started_at=0.0, finished_at=1.0)
        for i in range(2)
    ]
    return [one.model_copy(update={"params": {**one.params, "method": method, **params}}) for one in made]


JOBS = [
    *make_jobs("gsi", [accepted_step(), accepted_step(), accepted_step(), resampled_step()]),
    *make_jobs("specs", [written(Source.DRAFT, 1), written(Source.TARGET, 1)]),
    *make_jobs(
        "conf-spec",
        [judged(Source.DRAFT)] * 3 + [judged(Source.DRAFT, Source.TARGET, outcome=Outcome.RESAMPLED)],
        n=1,
    ),
    *make_jobs("majority-vote", [written(Source.DRAFT, 100)], role="draft"),
    *make_jobs("confidence-vote", [written(Source.DRAFT, 70)], role="draft"),
    *make_jobs("best-of-n:target", [written(Source.TARGET, 100)], role="target", scope="responses"),
    *make_jobs("speculative-rejection:target", [written(Source.TARGET, 25)], role="target"),
    *make_jobs(
        "best-of-n",
        [step(proposal(Source.DRAFT, *[candidate()] * 4)), step(proposal(Source.DRAFT, *[candidate()] * 8))],
        role="draft",
        **RULE,
    ),
]


def write_methods(folder: Path, jobs: Sequence[RecordedJob] = JOBS) -> Path:
    """Write what gsi calibrate --methods writes of these jobs."""
    rows = compute_rows(evaluation(tuple({one.label: None for one in jobs})), jobs)
    found = choose_method(rows, CostKind.SECONDS, 0.01)
    file = folder / "methods.json"
    file.write_text(json.dumps(build_method_choice_json(found, "made", jobs)))
    return file


def read(path: Path, n: int = 16) -> Given:
    ((_, given),) = read_calibration(path, n)
    return given


def test_each_share_is_the_one_that_was_measured(tmp_path: Path) -> None:
    """Of four steps three accepted; three decided by the draft; 70 of 100 tokens; 4 and 8 candidates."""
    assert read(write_methods(tmp_path)) == {
        Quantity.ACCEPTANCE: {"gsi": 0.75, "conf-spec": 0.75, "specs": 0.5},
        Quantity.SURE: {"conf-spec": 0.75},
        Quantity.WRITTEN: {"confidence-vote:draft": 0.7, "speculative-rejection:target": 0.25},
        Quantity.MEAN_N: {"best-of-n:draft:n_rule": 6.0},
    }


def test_a_folder_or_a_file_gives_the_shares_of_methods(tmp_path: Path) -> None:
    """What was measured is planned, and said to be measured."""
    file = write_methods(tmp_path)
    for path in (tmp_path, file):
        found = plan_json("--calibration", str(path))
        assert found["methods"]["conf-spec"]["acceptance"] == 0.75
        assert found["methods"]["gsi"]["acceptance"] == 0.75
        assert "confidence-vote:draft" in found["methods"]
        sources = found["sources"]["acceptance"]
        assert {label for label, origin in sources.items() if origin == "methods.json"} == {
            *("gsi", "gsi:speculative", "conf-spec", "conf-spec:speculative", "specs")
        }
        assert sources["rsd"] == "the paper"


def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    """gsi calibrate --methods reads the records of an evaluation, and gsi plan the file that it writes."""
    labels = tuple({one.label: None for one in JOBS})
    folder = Folder(tmp_path)
    folder.begin(Plan(dataset="arithmetic", methods=labels, ns=(16,), seeds=1), evaluation(labels))
    for one in JOBS:
        folder.append(one)
    calibrated = CliRunner().invoke(app, ["calibrate", str(tmp_path), "--methods", "all", "--json"])
    assert calibrated.exit_code == 0, calibrated.output
    found = plan_json("--calibration", str(tmp_path))
    assert found["workload"]["quantities"]["mean_n"] == {"best-of-n:draft:n_rule": 6}
    assert found["workload"]["quantities"]["written"] == {
        "confidence-vote:draft": 0.7,
        "speculative-rejection:target": 0.25,
    }


def test_an_option_counts_more_than_what_was_measured(tmp_path: Path) -> None:
    """And is named as the source."""
    write_methods(tmp_path)
    options = ("--accept", "conf-spec=0.9", "--acceptance", "0.6", "--rsd-acceptance", "0.5")
    found = plan_json("--calibration", str(tmp_path), *options)
    assert [found["methods"][label]["acceptance"] for label in ("conf-spec", "gsi", "rsd")] == [0.9, 0.6, 0.5]
    sources = found["sources"]["acceptance"]
    assert [sources[label] for label in ("conf-spec", "gsi", "rsd")] == ["--accept", "--acceptance", "--rsd-acceptance"]
    assert sources["specs"] == "methods.json"


def test_a_tuned_setting_counts_more_than_a_method_that_was_compared(tmp_path: Path) -> None:
    """calibration.json has the setting of GSI that gsi calibrate recommends."""
    write_methods(tmp_path)
    (tmp_path / "calibration.json").write_text(json.dumps({"method": "gsi", "recommended": {"acceptance": 0.6}}))
    found = plan_json("--calibration", str(tmp_path))
    assert found["methods"]["gsi"]["acceptance"] == 0.6
    assert found["methods"]["conf-spec"]["acceptance"] == 0.75


@pytest.mark.parametrize(("method", "other"), [("gsi", 0.97), ("rsd", 0.91)])
def test_a_tuned_setting_is_that_of_its_method(tmp_path: Path, method: str, other: float) -> None:
    """An rsd that was calibrated says nothing of GSI's acceptance."""
    content = {"method": method, "recommended": {"acceptance": 0.75}}
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    methods = plan_json("--calibration", str(tmp_path))["methods"]
    assert methods[method]["acceptance"] == 0.75
    assert methods[{"gsi": "rsd", "rsd": "gsi"}[method]]["acceptance"] == other


def test_of_several_settings_the_recommended_one_counts_and_else_the_most_accurate(tmp_path: Path) -> None:
    """Two settings of each method; GSI's cheap one is recommended, and RSD's right one is more accurate."""
    wrong = [one.model_copy(update={"is_correct": False}) for one in make_jobs("rsd:binary=1", [resampled_step()])]
    jobs = [
        *make_jobs("gsi:u=0.3", [accepted_step(), resampled_step()]),
        *[one.model_copy(update={"finished_at": 0.5}) for one in make_jobs("gsi", [accepted_step()])],
        *wrong,
        *make_jobs("rsd", [accepted_step(), accepted_step(), accepted_step(), resampled_step()]),
    ]
    assert read(write_methods(tmp_path, jobs))[Quantity.ACCEPTANCE] == {"gsi": 1.0, "rsd": 0.75}


def test_what_was_measured_at_another_n_is_not_used(tmp_path: Path) -> None:
    """A method of one candidate has no other n; without one, nothing is left, and the command is refused."""
    assert read(write_methods(tmp_path), n=4) == {
        Quantity.ACCEPTANCE: {"conf-spec": 0.75},
        Quantity.SURE: {"conf-spec": 0.75},
    }
    file = write_methods(tmp_path, make_jobs("gsi", [accepted_step()]))
    with pytest.raises(InvalidRequestError, match="has no method at n = 4"):
        read_calibration(file, 4)


def test_early_ends_without_the_method_that_has_none_are_not_known(tmp_path: Path) -> None:
    """A share needs both counts of tokens."""
    jobs = make_jobs("confidence-vote", [written(Source.DRAFT, 70)], role="draft")
    with pytest.raises(InvalidRequestError, match=r"--calibration: .* has no method at n = 16 that can be planned by"):
        read_calibration(write_methods(tmp_path, jobs), 16)


def test_a_measured_vote_is_at_least_its_warm_up(tmp_path: Path) -> None:
    """Chance may write fewer tokens than half of a majority vote's, which no vote can plan to do."""
    jobs = [
        *make_jobs("majority-vote", [written(Source.DRAFT, 100)], role="draft"),
        *make_jobs("confidence-vote", [written(Source.DRAFT, 45)], role="draft"),
    ]
    assert read(write_methods(tmp_path, jobs)) == {Quantity.WRITTEN: {"confidence-vote:draft": 0.5}}


def test_responses_that_were_begun_are_counted_once() -> None:
    """Of four places two were written, over two rounds."""
    kept = accepted_step()
    branches = tuple(BranchRecord(parent=place, step=kept if place < 2 else None) for place in range(4))
    rounds = [accepted_step().model_copy(update={"branches": branches})] * 2
    jobs = make_jobs("best-of-n", rounds, n=4, role="draft", scope="responses", **RULE)
    (row,) = compute_rows(evaluation(("best-of-n",)), jobs)
    found = measure(row, jobs)
    assert (found.calls, found.mean_n) == ("best-of-n:draft:responses:n_rule", 2.0)


def test_a_row_that_the_planner_does_not_know_is_left_out(tmp_path: Path) -> None:
    """Its calls are null in the file."""
    jobs = make_jobs("gsi", [accepted_step()])
    (row,) = compute_rows(evaluation(("gsi",)), jobs)
    assert measure(replace(row, params={"method": "other"}), jobs).calls is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("calibration.json", '{"recommended": null}', "recommends nothing and has no method at n = 16"),
        ("methods.json", "[]", "methods.json is not a file of gsi calibrate"),
        ("methods.json", '{"choices": [{"n": 16}]}', "methods.json is not a file of gsi calibrate"),
        ("calibration.json", '{"recommended": {"acceptance": 2}}', "calibration.json is not a file of gsi calibrate"),
    ],
)
def test_a_file_that_tells_nothing_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    """Exit code 2, and what is allowed."""
    (tmp_path / name).write_text(content)
    result = plan("--calibration", str(tmp_path))
    assert result.exit_code == 2
    assert said in result.stderr
