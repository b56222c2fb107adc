"""``make gpu`` without a GPU: what a part leaves when it fails, the models, the figures, the goals, the report."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from benchmarks.gpu.__main__ import EXIT_NO_GPU, make_report, run_parts
from benchmarks.gpu.calls import CANDIDATE_TOKENS, CONTEXTS, NUM_CANDIDATES, measure_calls
from benchmarks.gpu.checkpoints import (
    CONTROL,
    END,
    STEP_TOKENS,
    choose_sizes,
    draw_text,
    draw_tokens,
    write_checkpoints,
)
from benchmarks.gpu.figures import ACCEPTANCE, match_gpu, meet_goals, predict_calls, predict_steps, summarise
from benchmarks.gpu.parts import PARTS, TOTAL_SECONDS, Part, run_part
from benchmarks.gpu.report import format_run
from benchmarks.gpu.scrapes import GpuWatch, prefix_hit_rates, read_caches
from benchmarks.gpu.steps import ACCEPTED, IN_TURNS, MAX_STEP_TOKENS, NUM_STEPS, PLAIN, REJECTED, SBON, measure_steps
from benchmarks.gpu.suite import run_file
from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.ports import Ports
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.local.stack import ROLES
from gsi.planning.architecture import find_architecture
from gsi.planning.gpus import GPUS
from tests.conftest import wait_until

PART = Part("a part", "tests.planning.gpu_part", 30.0)
ROOT = Path(__file__).parents[2]


class Model:
    """A draft, a target or a PRM that takes no time. Of its candidates one is shorter than the limit."""

    def __init__(self, num_tokens: int) -> None:
        self._num_tokens = num_tokens

    async def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return (1, 2, 3)

    async def propose(self, prefix: Sequence[int], n: int, sampling: Any, seed: int) -> AsyncIterator[list[Candidate]]:
        for index in range(n):
            length = min(sampling.max_step_tokens, self._num_tokens // (2 if index == 1 else 1))
            yield [Candidate(index, (7,) * length, " w" * length, -1.0, FinishReason.LENGTH)]

    async def score(self, *given: Any) -> AsyncIterator[list[Score]]:
        async for batch in given[-1]:
            yield [Score(candidate.index, -0.5) for candidate in batch]


MODEL: Any = Model(200)
PORTS = Ports(MODEL, MODEL, MODEL)


@pytest.mark.parametrize(("ends", "state"), [("well", "done"), ("badly", "failed"), ("never", "out of time")])
def test_a_part_that_ends_badly_keeps_its_figures(ends: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it measured before is in the report, with the end of its log; it does not outlive its time."""
    monkeypatch.setenv("PART_ENDS", ends)
    started = time.monotonic()
    result = run_part(PART, 10.0 if ends != "never" else 1.5, is_rehearsal=True)
    assert result["state"] == state
    assert result["figures"] == {"rehearsal": True} | ({"second half": [1, 2]} if ends == "well" else {})
    if ends == "badly":
        assert result["log"][-1] == "ValueError: the second half does not work"
    # The part sleeps for a minute. Where SIGINT is ignored, as in the background of a shell, it is killed after 20 s.
    assert time.monotonic() - started < 50


def test_the_parts_fit_into_25_minutes_and_are_left_out_where_they_cannot_run() -> None:
    """A part that needs three GPUs does not run with two; when the time is over, nothing else begins."""
    assert sum(part.limit_seconds for part in PARTS) <= TOTAL_SECONDS == 25 * 60
    three = [part for part in PARTS if part.num_gpus == 3]
    assert run_parts(three, 2, 100.0, is_rehearsal=False)["three GPUs"]["state"] == "needs more GPUs"
    assert run_parts(PARTS[:1], 1, 0.0, is_rehearsal=False)["machine"]["state"] == "no time left"


def test_a_machine_without_a_gpu_is_told_so() -> None:
    """One sentence, and an exit code of its own."""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu", "--json"]
    ran = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=False)
    assert ran.returncode == EXIT_NO_GPU == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("no GPU: ")
    assert ran.stderr.endswith("--rehearse tests this program on the CPU.\n")


def test_the_models_have_the_papers_sizes(tmp_path: Path) -> None:
    """But for the draft's vocabulary, which is the target's: 128 more rows."""
    sizes = choose_sizes(is_rehearsal=False)
    write_checkpoints(tmp_path, sizes)
    for role, size in sizes.items():
        written = find_architecture(role, str(tmp_path / role))
        assert written.num_parameters == pytest.approx(size.num_parameters, rel=2e-4)
        assert written.num_kv_values == size.num_kv_values


def test_the_tokenizer_ends_one_step_in_160_tokens(tmp_path: Path) -> None:
    """Equally likely tokens make steps of different lengths; a text has as many tokens as it was drawn with."""
    write_checkpoints(tmp_path, choose_sizes(is_rehearsal=True))
    tokenizer = Tokenizer(str(tmp_path / "draft"), None)
    ends = [token for token in range(tokenizer.size) if tokenizer.decode([token]).endswith("\n\n")]
    assert len(ends) == tokenizer.size // STEP_TOKENS
    rng = random.Random(0)
    assert len(tokenizer.encode(draw_text(rng, 50))) == 50
    assert tokenizer.encode(tokenizer.decode(tokens := draw_tokens(rng, 20))) == tuple(tokens)
    rendered = tokenizer.render((Message("user", draw_text(rng, 10)),))
    assert len(rendered) == 13  # with a mark on each side, and the one before the answer
    assert rendered[11] == CONTROL.index(END)


async def test_calls_and_steps_are_measured_as_they_are_named() -> None:
    """Accepted and rejected steps are what they are called; a plain sample counts if it was cut at the limit."""
    calls = await measure_calls(PORTS)
    assert [(call["role"], call["does"], call["rows"]) for call in calls[:3]] == [
        ("draft", "writes", 16),
        ("target", "writes", 16),
        ("target", "writes", 1),
    ]
    assert [call["context"] for call in calls[3:]] == [length for length in CONTEXTS for _ in range(2)]
    steps = await measure_steps(PORTS, MODEL.render)
    assert {way: figures["accepted"] for way, figures in steps.items() if "GSI" in way} == {
        ACCEPTED: 1.0,
        IN_TURNS: 1.0,
        REJECTED: 0.0,
    }
    assert steps[PLAIN]["longest_tokens"] == steps[PLAIN]["mean_tokens"] == MAX_STEP_TOKENS
    assert steps[SBON]["steps"] == 3 * NUM_STEPS


def figures_of(seconds: float, drafting: float) -> dict[str, float]:
    lengths = {"mean_tokens": 64.0, "shortest_tokens": 10.0, "longest_tokens": 80.0}
    return {"steps": 12, "seconds_per_step": seconds, "drafting_seconds": drafting, "accepted": 1.0} | lengths


STEPS = {
    ACCEPTED: figures_of(0.25, 0.20),
    IN_TURNS: figures_of(0.45, 0.20),
    REJECTED: figures_of(0.75, 0.20),
    SBON: figures_of(0.50, 0.45),
    PLAIN: figures_of(0.34, 0.34) | {"mean_tokens": 80.0, "shortest_tokens": 80.0},
}


def test_the_figures_are_counted_by_hand() -> None:
    """Of 0.25 s that the scores take, 0.05 s show behind the drafting: 80 % is hidden."""
    figures = summarise(STEPS)
    assert figures["scoring_hidden_share"] == pytest.approx(0.8)
    assert figures["step_seconds"] == pytest.approx(ACCEPTANCE * 0.25 + (1 - ACCEPTANCE) * 0.75)
    assert figures["step_over_plain_target"] == pytest.approx((ACCEPTANCE * 0.25 + (1 - ACCEPTANCE) * 0.75) / 0.34)
    goals = meet_goals(figures)
    assert (goals["step_seconds"]["met"], goals["step_over_plain_target"]["met"]) == (True, True)
    assert meet_goals({})["step_seconds"] == {"measured": None, "at_most": 0.30, "met": None}
    nothing = summarise({**STEPS, PLAIN: {"steps": 0}})
    assert nothing["step_over_plain_target"] is None


def test_predictions_stand_beside_what_was_measured() -> None:
    """The target's floor for 80 tokens of one sample is its weights, read 80 times at 70 % of an H100's bandwidth."""
    sizes = choose_sizes(is_rehearsal=False)
    planned = predict_steps(STEPS, sizes, GPUS["h100"], 3)
    weights = 2 * sizes["target"].num_values_read
    assert planned[PLAIN]["floor_seconds"] == pytest.approx(80 * weights / (0.7 * 3.35e12), rel=0.02)
    assert planned[ACCEPTED]["planned_seconds"] < planned[IN_TURNS]["planned_seconds"]
    assert planned[ACCEPTED]["planned_seconds"] < planned[REJECTED]["planned_seconds"]
    call = {"role": "target", "does": "reads", "rows": NUM_CANDIDATES, "context": 256, "seconds": 0.03}
    (row,) = predict_calls([call | {"mean_tokens": CANDIDATE_TOKENS, "longest_tokens": 80}], sizes, GPUS["h100"])
    assert 0.005 < row["floor_seconds"] < row["planned_seconds"] < 0.1


@pytest.mark.parametrize(
    ("name", "memory", "found"),
    [
        ("NVIDIA H100 80GB HBM3", 85e9, "h100"),
        ("NVIDIA H100 PCIe", 85e9, "h100-pcie"),
        ("NVIDIA H200", 150e9, "h200"),
        ("NVIDIA A100-SXM4-40GB", 42e9, "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", 85e9, "a100"),
        ("NVIDIA L40S", 48e9, "l40s"),
        ("NVIDIA GeForce RTX 4090", 24e9, None),
    ],
)
def test_the_planner_knows_a_gpu_by_nvmls_name(name: str, memory: float, found: str | None) -> None:
    """One that it does not know gets no prediction, and no wrong one."""
    gpu = match_gpu(name, memory)
    assert (gpu.name if gpu else None) == found


def test_hit_rates_are_of_the_time_between_two_readings() -> None:
    """A role that looked nothing up has none."""
    before, after = {"draft": (100.0, 90.0), "prm": (5.0, 0.0)}, {"draft": (300.0, 190.0), "prm": (5.0, 0.0)}
    assert prefix_hit_rates(before, after) == {"draft": 0.5, "prm": None}


def test_a_file_of_tests_is_summed_up(tmp_path: Path) -> None:
    """What passed, what was skipped, and of each test that failed the first line of why."""
    file = tmp_path / "test_engine.py"
    file.write_text(
        "import pytest\n\ndef test_good(): pass\n\ndef test_bad(): assert 1 == 2\n\ndef test_off(): pytest.skip('no')\n"
    )
    assert run_file(file) == {"passed": 1, "skipped": 1, "failed": {"test_bad": "assert 1 == 2"}}
    assert "no-such-file" in run_file(tmp_path / "no-such-file.py")["error"]


async def test_what_metrics_says_is_read_while_the_system_works() -> None:
    """Tokens by role, as vLLM counts them; and the highest values of each GPU, which NVML gives to any process."""
    registry = CollectorRegistry()
    looked_up, found = (Counter(f"vllm:prefix_cache_{name}", "", registry=registry) for name in ("queries", "hits"))
    busy = Gauge("gsi_gpu_utilization_ratio", "", ["gpu", "uuid"], registry=registry).labels("0", "GPU-0")
    server, _ = start_http_server(0, "127.0.0.1", registry)
    address = f"127.0.0.1:{server.server_port}"
    addresses = dict.fromkeys(ROLES, address)
    before = await read_caches(addresses)
    looked_up.inc(200)
    found.inc(150)
    busy.set(0.9)
    assert prefix_hit_rates(before, await read_caches(addresses)) == dict.fromkeys(ROLES, 0.75)
    async with GpuWatch(address) as watch:

        async def has_seen() -> bool:
            return bool(watch.seen)

        await wait_until(has_seen, "a scrape")
    busy.set(0.1)
    server.shutdown()
    server.server_close()
    assert watch.seen == {"0": {"highest_utilization": 0.9}}


def test_the_report_says_missed_goals_and_failed_tests() -> None:
    """A rehearsal has no goals. A part that left nothing is a row all the same."""
    slow = {way: {**figures, "seconds_per_step": 2 * figures["seconds_per_step"]} for way, figures in STEPS.items()}
    tests = {"test_vllm_engine": {"passed": 40, "skipped": 1, "failed": {"test_law": "assert 1 == 2"}}}
    parts: dict[str, Any] = {
        "machine": {"state": "done", "seconds": 1.0, "figures": {"gpus": [{"name": "NVIDIA H100 80GB HBM3"}]}},
        "tests": {"state": "done", "seconds": 200.0, "figures": tests},
        "one GPU": {"state": "out of time", "seconds": 480.0, "figures": {}},
        "three GPUs": {"state": "done", "seconds": 9.0, "figures": {"steps": slow, "figures": summarise(slow)}},
    }
    text = format_run(make_report(parts, 700.0, is_rehearsal=False))
    assert "| seconds a step, of which 91 % are accepted | 0.590 | 0.30 | no |" in text
    assert "| test_vllm_engine | 40 | test_law | 1 |" in text
    assert "| one GPU | out of time | 480 |" in text
    assert f"| {PLAIN} | 12 | 0.680 | - | - |" in text
    assert make_report(json.loads(json.dumps(parts)), 1.0, is_rehearsal=True)["goals"] == {}
