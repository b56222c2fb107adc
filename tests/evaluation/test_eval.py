"""``gsi eval`` as people run it: real processes, the shipped family, and what becomes of it when it is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from gsi.cli.main import app
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan
from gsi.evaluation.problems import load_problems
from gsi.evaluation.records import Evaluation
from gsi.evaluation.runner import run_missing
from gsi.jobs.state import JobState
from tests.conftest import wait_until
from tests.system import CHEAP, ModelServices, System

GSI = str(Path(sys.executable).parent / "gsi")
LIMIT = 8
METHODS = "gsi,rsd:binary=0.9,majority-vote"
NUM_JOBS = 3 * LIMIT
OPTIONS = ["eval", "--dataset", "arithmetic", "--methods", METHODS, "--n", "2", "--seeds", "1", "--limit", str(LIMIT)]
TIMEOUT_SECONDS = 100


def gsi(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; the system that it starts has the settings of the tests' shared services."""
    return subprocess.run(
        [GSI, *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, env=os.environ | CHEAP
    )


def without_times(records: Path) -> dict[tuple[Any, ...], Any]:
    """Return everything of each job but when and how fast it ran, by what names it."""
    found = {}
    for line in records.read_text().splitlines():
        job = json.loads(line)
        for name in ("id", "submitted_at", "started_at", "finished_at"):
            del job[name]
        for step in job["steps"]:
            del step["seconds"]
            for proposal in step["proposals"]:
                del proposal["seconds"]
        found[job["label"], job["n"], job["seed"], job["problem"]] = job
    return found


def table(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "timings"} for row in report["rows"]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(model_services: ModelServices) -> AsyncIterator[System]:
    """A running system for the tests that do not start one."""
    async with model_services.coordinators("evaluation") as running:
        yield running


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report and the folder of an evaluation that nobody stopped."""
    folder = tmp_path_factory.mktemp("evaluation") / "whole"
    ran = gsi(*OPTIONS, "--json", "--own-system", "--out", str(folder))
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report, folder


def test_the_report_is_one_json_object_and_three_kinds_of_file(uninterrupted: tuple[dict[str, Any], Path]) -> None:
    """A script reads standard output, a person the Markdown, and both can be made again from the records."""
    report, folder = uninterrupted
    assert [(row["label"], row["n"]) for row in report["rows"]] == [(label, 2) for label in METHODS.split(",")]
    assert all(row["failures"] == 0 and 0 <= row["accuracy"]["value"] <= 1 for row in report["rows"])
    assert {"run.json", "records.jsonl", "report.md", "report.json"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "report.json").read_text()) == report
    for plot in folder.glob("*.png"):
        assert f"({plot.name})" in (folder / "report.md").read_text()


def test_a_record_holds_every_candidate_of_every_step(uninterrupted: tuple[dict[str, Any], Path]) -> None:
    """With both likelihoods where the method compares them, so that figures can be computed without a model."""
    _, folder = uninterrupted
    records = Folder(folder).read_records()
    assert len(records) == NUM_JOBS
    for record in records:
        assert record.state is JobState.SUCCEEDED
        assert {role: bool(model.num_parameters) for role, model in record.models.items()} == dict.fromkeys(
            ("draft", "target", "prm"), True
        )
        for step in record.steps:
            assert step.proposals
            drafted = step.proposals[0]
            assert (len(drafted.candidates) == 2) or record.label == "majority-vote"
            for candidate in drafted.candidates:
                assert (candidate.log_likelihood_target is not None) == (record.label == "gsi")
                assert (candidate.reward is not None) == (record.label != "majority-vote")
            if record.label != "majority-vote" and step.source == "draft":
                assert drafted.selected is not None
                assert drafted.candidates[drafted.selected].text == step.text


@pytest.mark.asyncio(loop_scope="session")
async def test_an_evaluation_that_was_killed_goes_on_and_ends_with_the_same_table(
    uninterrupted: tuple[dict[str, Any], Path], system: System, tmp_path: Path
) -> None:
    """SIGKILL half-way: finished jobs are not run again, and every number but the seconds is the same.

    Also the same as those of a system that the evaluation started for itself.
    """
    report, whole = uninterrupted
    folder = tmp_path / "killed"
    options = [*OPTIONS, "--json", "--out", str(folder), *where(system)]
    with subprocess.Popen([GSI, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await records_are_written(folder / "records.jsonl", NUM_JOBS // 3)
        process.send_signal(signal.SIGKILL)
    before = (folder / "records.jsonl").read_bytes()
    num_before = before.count(b"\n")
    assert 0 < num_before < NUM_JOBS
    ran = await asyncio.to_thread(gsi, *options)
    assert ran.returncode == 0, ran.stderr
    assert f"resuming: {num_before} of {NUM_JOBS} jobs" in ran.stderr
    assert (folder / "records.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert table(json.loads(ran.stdout)) == table(report)
    assert without_times(folder / "records.jsonl") == without_times(whole / "records.jsonl")


def test_a_finished_evaluation_is_reported_without_a_system(uninterrupted: tuple[dict[str, Any], Path]) -> None:
    """The same command again runs nothing: the report is computed from the records."""
    report, folder = uninterrupted
    ran = gsi(*OPTIONS, "--json", "--out", str(folder))
    assert json.loads(ran.stdout) == report
    assert "ready" not in ran.stderr


@pytest.mark.asyncio(loop_scope="session")
async def test_what_is_measured_is_said_first_and_kept(system: System, tmp_path: Path) -> None:
    """Going on with another model is refused with the difference; so are models beside a running system."""
    options = ["eval", "--limit", "2", "--n", "1", "--methods", "draft", "--out", str(tmp_path), *where(system)]
    ran = await asyncio.to_thread(gsi, *options)
    assert ran.returncode == 0, ran.stderr
    first = ran.stderr.splitlines()[0]
    identity = Folder(tmp_path).read_run().evaluation.identity
    assert identity is not None
    assert first.startswith(f"measures  {system.stack.redis_url}, queue {system.queue}: draft draft (local, transform")
    for role in ("draft", "target", "prm"):
        assert identity.models[role].dtype == "float32"
        assert f"files {identity.models[role].checkpoint_fingerprint[:12]}" in first
    assert identity.code == identity.coordinator_code
    run, records = tmp_path / "run.json", tmp_path / "records.jsonl"
    fingerprint = identity.models["target"].checkpoint_fingerprint
    run.write_text(run.read_text().replace(fingerprint, "0" * 64))
    records.write_bytes(records.read_bytes().splitlines(keepends=True)[0])
    ran = await asyncio.to_thread(gsi, *options)
    assert ran.returncode == 2
    assert f"target.checkpoint_fingerprint: 000000000000 there, {fingerprint[:12]} here" in ran.stderr
    ran = await asyncio.to_thread(gsi, *options, "--models", "models")
    assert ran.returncode == 2
    assert "models: models is not allowed with the running system" in ran.stderr


@pytest.mark.asyncio(loop_scope="session")
async def test_a_wrong_data_set_shows_itself(system: System, tmp_path: Path) -> None:
    """The first prompt is shown as rendered, skipped rows are counted, 0 % is doubted, a failed job is no answer."""
    rows = [
        {"id": 1, "task": "1 " * 600, "result": "no such answer"},  # longer than the models' context
        {"id": 2, "task": "1 + 2 + 3", "result": "no such answer"},
        {"id": 3, "task": "2 + 2 + 3", "result": None},
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = [part for pair in ("problem=task", "answer=result") for part in ("--field", pair)]
    options = ["eval", "--dataset", str(tmp_path / "set.jsonl"), *fields, "--n", "1", "--methods", "draft"]
    options += [*where(system), "--out", str(tmp_path / "out"), "--no-system"]
    ran = await asyncio.to_thread(gsi, *options, "--strict")
    assert ran.returncode == 2
    assert "line 3: field result: missing" in ran.stderr.replace("\n", " ")
    ran = await asyncio.to_thread(gsi, *options)
    assert ran.returncode == 0, ran.stderr
    said = ran.stderr
    assert "1 rows without an answer" in said
    prompt = next(job.rendered_prompt for job in Folder(tmp_path / "out").read_records() if job.rendered_prompt)
    assert "1 + 2 + 3" in prompt
    assert all(f"  {line}" in said for line in prompt.splitlines())
    assert "1 of 2 jobs of draft, n = 1: prompt: " in said
    assert "0 % right  draft, n = 1: is it the right data set" in said
    assert "expected no such answer, answered " in said
    again = await asyncio.to_thread(gsi, *options, "--json", "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert "resuming: 1 of 2 jobs" in again.stderr
    (row,) = json.loads(again.stdout)["rows"]
    assert (row["jobs"], row["answered"], row["failures"]) == (2, 1, 1)  # it failed again, and is still one job
    assert (tmp_path / "out" / "records.jsonl").read_bytes().count(b"\n") == 3


def where(system: System) -> list[str]:
    """Return the options that name a running system."""
    return ["--redis-url", system.stack.redis_url, "--queue", system.queue]


async def keys_of_jobs(system: System) -> set[bytes]:
    return {key async for key in system.redis.scan_iter(f"{system.keys.prefix}job:*")}


async def records_are_written(path: Path, count: int) -> None:
    async def has_records() -> bool:
        return path.exists() and path.read_bytes().count(b"\n") >= count

    await wait_until(has_records, f"{count} records are written")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_running_system_is_used_and_left_empty(system: System, tmp_path: Path) -> None:
    """Jobs go through the queue that is there; once on disk they leave its memory."""
    plan = Plan(dataset="arithmetic", methods=("draft", "gsi"), ns=(2,), seeds=1, limit=3)
    folder = Folder(tmp_path / "out")
    evaluation = Evaluation(
        dataset="arithmetic", problems=3, labels=plan.methods, ns=(2,), seeds=1, concurrency=3, machine="-", date="-"
    )
    run, problems, seen = folder.begin(plan, evaluation), load_problems("arithmetic", 3), []
    assert await system.client.is_served()
    left_by_others = await keys_of_jobs(system)  # an evaluation that was killed may leave a job, until it expires
    await run_missing(system.client, run, problems, folder, concurrency=3, on_job=lambda row, _: seen.append(row))
    assert await keys_of_jobs(system) <= left_by_others
    assert len(folder.read_records()) == len(seen) == 6
    assert seen[:3] == ["draft, n = 1, seed 0"] * 3  # alone, a model writes one candidate whatever n is


@pytest.mark.asyncio(loop_scope="session")
async def test_calibration_reads_the_records_and_runs_what_is_worth_it(
    uninterrupted: tuple[dict[str, Any], Path], system: System, tmp_path: Path
) -> None:
    """One table, a recommended setting with its interval, and the theory with its warnings."""
    _, whole = uninterrupted
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("run.json", "records.jsonl"):
        (folder / name).write_bytes((whole / name).read_bytes())
    ran = await asyncio.to_thread(gsi, "calibrate", str(folder), "--run", "2", "--json", *where(system))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["recommended"]["method"] in {one["method"] for one in found["measured"]}
    assert len(found["measured"]) == 2
    (run,) = (folder / "calibration").iterdir()
    assert {record.seed for record in Folder(run).read_records()} == {1}  # fresh: the records have seed 0
    assert found["margin"] == 0.01
    assert found["theory"]["theorem_1_log10_n"] > 15  # e^(2 beta) alone is 10^17
    assert "Recommended" in (folder / "calibration.md").read_text()
    ran = await asyncio.to_thread(gsi, "calibrate", str(folder), "--run", "0", "--json", "--method", "rsd")
    assert ran.returncode == 2
    assert "no records of method rsd" in ran.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dataset", "mmath"], "dataset: mmath is not known; allowed: arithmetic, math500"),
        (["--methods", "magic"], 'params.method: "magic" is not allowed; allowed: gsi, gsi-no-rejection'),
        (
            ["--methods", "rsd:magic=1"],
            'option "magic=1" is not allowed with rsd; allowed: speculative, authors',
        ),
        (["--methods", ","], "methods: none; allowed: gsi"),
        (["--n", "0"], "params.n: 0 is not allowed; allowed: a whole number from 1 to 256"),
        (["--n", "four"], 'n: "four" is not allowed; allowed: whole numbers'),
        (["--seeds", "0"], "seeds: 0 is not allowed; allowed: 1 to 1000"),
        (["--limit", "0"], "limit: 0 is not allowed"),
        (["--param", "bta=3"], "params.bta: unknown; did you mean beta?"),
        (["--param", "seed=3"], "params.seed: an evaluation gives every job its own"),
        (["--field", "question=q"], "field: arithmetic is no file"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    """The sentence lists what is allowed, and nothing is left behind."""
    ran = CliRunner().invoke(app, ["eval", *arguments, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert sentence in ran.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_another_plan_may_not_write_into_the_folder(uninterrupted: tuple[dict[str, Any], Path]) -> None:
    """Records of two plans in one file would be a table of neither."""
    _, folder = uninterrupted
    ran = CliRunner().invoke(app, [*OPTIONS, "--seeds", "2", "--out", str(folder)])
    assert ran.exit_code == 2
    assert "holds another evaluation (seeds: 1 there, 2 here)" in ran.stderr.replace("\n", " ")


def test_a_redis_that_is_away_is_named(tmp_path: Path) -> None:
    """With where to look."""
    options = ["--limit", "1", "--out", str(tmp_path / "out"), "--redis-url", "redis://127.0.0.1:1/0"]
    ran = CliRunner().invoke(app, ["eval", *options])
    assert ran.exit_code == 1
    assert "no Redis" in ran.stderr
