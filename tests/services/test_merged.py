"""A merged target and PRM in one process, behind two addresses: jobs, records and clients know nothing of it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gsi.client.sdk import AsyncClient
from gsi.jobs.reader import JobRecord
from gsi.local.stack import local_stack
from tests.conftest import MODELS
from tests.engines.merged_checkpoints import write_head_on
from tests.services.test_model_services import PROBLEM
from tests.system import EXACT, read_metrics

PROFILE = {"GSI_PRM_PROFILE": "qwen2.5-math-prm-one-mark"}
JOB = {
    "prompt": PROBLEM,
    "params": {"method": "gsi", "n": 4, "beta": 2.0, "acceptance_threshold": 0.4, "seed": 3, "max_steps": 4},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped draft and shallow target, and a PRM with the target's layers and a random head."""
    folder = tmp_path_factory.mktemp("merged")
    (folder / "draft").symlink_to(MODELS / "draft")
    (folder / "target").symlink_to(MODELS / "shallow-target")
    write_head_on(MODELS / "shallow-target", folder / "prm")
    return folder


async def run_job(models: Path, folder: Path, *, is_merged: bool) -> tuple[JobRecord, Mapping[str, float]]:
    """Run the job in a system of its own; return its record, and the series of the process that serves the target."""
    folder.mkdir()
    stack = local_stack(folder, lambda *_: None, models=models, is_merged=is_merged, settings=PROFILE | EXACT)
    async with stack as running, AsyncClient(running.redis_url) as client:
        record = await client.wait(await client.submit(JOB), 60)
        return record, read_metrics(running.metrics["merged" if is_merged else "target"])


async def test_one_process_answers_as_two_do(models: Path, tmp_path: Path) -> None:
    """The same steps, likelihoods and rewards within 1e-5; and each candidate was read once for both."""
    apart, _ = await run_job(models, tmp_path / "apart", is_merged=False)
    merged, series = await run_job(models, tmp_path / "merged", is_merged=True)
    assert merged.text == apart.text
    for one, other in zip(merged.steps, apart.steps, strict=True):
        assert one.text == other.text
        assert one.reward == pytest.approx(other.reward, abs=1e-5)
        assert one.log_likelihood_target == pytest.approx(other.log_likelihood_target, abs=1e-5)
    assert series["gsi_candidate_readings_total source=shared"] > 0
    assert series["gsi_ready service=TargetService"] == series["gsi_ready service=PrmService"] == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"GSI_TARGET_ENGINE": "vllm"},
            "GSI_TARGET_ENGINE: vllm cannot serve two heads from one pass; allowed: transf",
        ),
        ({"GSI_PRM_METRICS_LISTEN": "127.0.0.1:0"}, "GSI_PRM_METRICS_LISTEN: .*; allowed: GSI_TARGET_METRICS_LISTEN"),
        (
            {"GSI_PRM_PROFILE": ""},
            "GSI_PRM_PROFILE: by qwen2.5-math-prm .*reads other tokens.* allowed: a profile with",
        ),
        ({"GSI_PRM_MODEL": str(MODELS / "prm")}, "tensors of the layers of .* differ .*allowed: .* gsi merge wrote"),
    ],
)
def test_what_cannot_be_served_so_is_refused(models: Path, settings: dict[str, str], sentence: str) -> None:
    """The process says what is allowed, and ends."""
    own = {
        "GSI_TARGET_LISTEN": "127.0.0.1:0",
        "GSI_PRM_LISTEN": "127.0.0.1:0",
        "GSI_TARGET_MODEL": str(models / "target"),
        "GSI_PRM_MODEL": str(models / "prm"),
        "GSI_TARGET_LOG_FORMAT": "json",
        **PROFILE,
        **settings,
    }
    command = [sys.executable, "-m", "services.merged"]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert re.search(sentence, done.stderr), done.stderr


def test_gsi_up_starts_the_pair_and_checks_it(models: Path) -> None:
    """``--merged`` is with models of a folder; GPUs and profiles are for services on vLLM."""
    command = [str(Path(sys.executable).parent / "gsi"), "up", "--dry-run", "--merged", "--models", str(models)]
    environment = {**os.environ, **PROFILE, "COLUMNS": "200"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert {"target scores", "prm rewards"} <= {line[8:25].strip() for line in shown.stdout.splitlines()}
    assert re.search(r"ready +merged", shown.stderr), shown.stderr
    refused = subprocess.run([*command, "--gpus", "0"], env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "--merged: not allowed with --profile or --gpus" in refused.stderr) == (2, True)
