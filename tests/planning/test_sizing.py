"""The tables of ``docs/sizing.md`` and ``docs/slo.md`` say what ``gsi plan`` and the formulas beside them give."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gsi.cli.main import app
from services.coordinator.metrics import ANSWER_SECONDS_BUCKETS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
PLANNED = re.findall(r"^\| [^|]+ \| `(--[^`]+)` \| (.+) \|$", TEXT, re.MULTILINE)
OBJECTIVES = (ROOT / "docs" / "slo.md").read_text(encoding="utf-8")
PROMISED = re.findall(r"^\| [^|]+ \| `(--[^`]+)` \| ([\d.]+) \| (\d+) \|$", OBJECTIVES, re.MULTILINE)
COORDINATORS = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| (\d+) \| (\d+)[^|]* \| ([\d.]+) GB \|$", TEXT, re.MULTILINE)
MEMORY = re.findall(r"^\| ([\d,]+) \| ([\d.]+) GB \| ([\d.]+) GB \| ([\d.]+) GB \|$", TEXT, re.MULTILINE)
NUM_STEPS, SECONDS = 13.9, 6.32
CORE_SECONDS, USED = 0.0034, 0.7  # of a coordinator, for a step
IDLE_MB, MB_OF_A_JOB = 80, 0.167


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_tables_are_found() -> None:
    """Otherwise the tests below say nothing."""
    assert (len(PLANNED), len(PROMISED), len(COORDINATORS), len(MEMORY)) == (5, 5, 4, 3)


@pytest.mark.parametrize(("options", "cells"), PLANNED)
def test_a_row_of_gpus_is_what_gsi_plan_says(options: str, cells: str) -> None:
    """GPUs, seconds, and both rates of a trio."""
    said = json.loads(CliRunner().invoke(app, ["plan", *options.split(), "--json"]).stdout)["methods"]["gsi"]
    gpus, seconds, together, full = map(number, cells.split(" | "))
    assert gpus == said["gpus"]
    assert seconds == pytest.approx(said["seconds_per_answer"], abs=0.005)
    assert together == pytest.approx(said["jobs_at_once"] * 3600 / said["seconds_per_answer"], abs=0.5)
    assert full == pytest.approx(said["jobs_per_hour_full_batch"], abs=0.5)


@pytest.mark.parametrize(("options", "seconds", "promise"), PROMISED)
def test_a_promise_is_the_bucket_above_twice_what_gsi_plan_says(options: str, seconds: str, promise: str) -> None:
    """For answers of 30 steps; a time between two buckets could not be measured."""
    command = ["plan", *options.split(), "--steps", "30", "--json"]
    planned = json.loads(CliRunner().invoke(app, command).stdout)["methods"]["gsi"]["seconds_per_answer"]
    assert number(seconds) == pytest.approx(planned, abs=0.005)
    assert number(promise) == min(bucket for bucket in ANSWER_SECONDS_BUCKETS if bucket >= 2 * planned)


@pytest.mark.parametrize(("load", "in_flight", "coordinators", "max_jobs", "gigabytes"), COORDINATORS)
def test_a_row_of_coordinators_follows_the_formulas(
    load: str, in_flight: str, coordinators: str, max_jobs: str, gigabytes: str
) -> None:
    """A coordinator has at least the default's slots."""
    jobs = number(load) / 3600 * SECONDS
    needed = max(2, math.ceil(number(load) * NUM_STEPS / 3600 * CORE_SECONDS / USED))
    assert (number(in_flight), int(coordinators)) == (round(jobs), needed)
    assert int(max_jobs) == max(16, math.ceil(jobs / needed / USED))
    assert number(gigabytes) == pytest.approx((IDLE_MB + MB_OF_A_JOB * jobs / needed) / 1000, abs=0.005)


@pytest.mark.parametrize(("load", "hour", "day", "week"), MEMORY)
def test_a_row_of_memory_follows_the_formula(load: str, hour: str, day: str, week: str) -> None:
    """1 kB a step, and half as much again."""
    for hours, said in ((1, hour), (24, day), (168, week)):
        assert number(said) == pytest.approx(number(load) * hours * NUM_STEPS * 1e3 * 1.5 / 1e9, rel=0.06)


def test_the_measured_figures_are_those_of_the_results() -> None:
    """What the guide calls measured stands in the committed results."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    for row, value in (
        ("cpu_ms_a_step_8_one_message", 3.4),
        ("cpu_ms_a_step_64_one_message", 3.0),
        ("coordinator_mb_idle", IDLE_MB),
        ("coordinator_mb_1000_jobs", IDLE_MB + 1000 * MB_OF_A_JOB),
        ("redis_kb_job_45_steps_one_message", 29.4),
        ("redis_cpu_us_a_step_8_one_message", 105),
    ):
        found = re.search(rf"`{row}`\s+\|\s+([\d.,]+)", results)
        assert found is not None, row
        assert number(found[1]) == pytest.approx(value, rel=0.02), row
