"""What one pass for target and PRM saves: ``python -m benchmarks.merged``, about three minutes on two quiet cores.

Two systems run: one with target and PRM as two services, one with both in ``services.merged``. The target has the
shipped target's shape; the PRM is random and has its shape too, and the two are merged. Each step proposes n candidates
and accepts one, so that target and PRM do nothing but score. Both systems answer the same problems in turns. Seconds of
the clock depend on who else uses the machine, so the seconds of processors stand beside them.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from transformers import Qwen2Config

from benchmarks.batching import DEMO_PROBLEMS, read_processor_seconds
from benchmarks.processes import ignore
from benchmarks.results import describe_conditions, progress, publish
from gsi.cli.terminal import run
from gsi.client.sdk import AsyncClient
from gsi.engines.hugging_face.merging import Merge, merge
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from gsi.local.demo import held_out_problems
from gsi.local.stack import MERGED, Stack, local_stack
from gsi.runtime.installation import SHIPPED_MODELS

HEADING = "One pass for target and PRM (`make bench-merged`)"
NS = (1, 4, 16)
STEPS = 4
PROFILE = {"GSI_PRM_PROFILE": "qwen2.5-math-prm-one-mark"}
WEIGHT = 0.6  # the target's share, as in the RSD paper
APART = ("target", "prm")


@dataclass(frozen=True, slots=True)
class Way:
    """A system, a client of it, and the processes in which target and PRM are."""

    stack: Stack
    client: AsyncClient
    scoring: Sequence[str]

    @property
    def processor_seconds(self) -> float:
        """Seconds of processors that the scoring processes have used since their start."""
        return sum(read_processor_seconds(self.stack.processes[name].pid) for name in self.scoring)

    @property
    def resident_bytes(self) -> int:
        """Memory of the scoring processes that no other process shares."""
        return sum(_read_private_bytes(self.stack.processes[name].pid) for name in self.scoring)


def _read_private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def write_models(folder: Path) -> Path:
    """Write a draft, a target and a PRM that are merged; return their folder."""
    torch.manual_seed(0)
    reward = folder / "reward"
    Qwen2ForProcessRewardModel(Qwen2Config.from_pretrained(SHIPPED_MODELS / "target")).save_pretrained(reward)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED_MODELS / "prm" / name, reward)
    merge(Merge(SHIPPED_MODELS / "target", reward, WEIGHT), folder / "models")
    (folder / "models" / "draft").symlink_to(SHIPPED_MODELS / "draft")
    return folder / "models"


@asynccontextmanager
async def start_ways(folder: Path) -> AsyncIterator[Mapping[str, Way]]:
    """Run both systems."""
    models = write_models(folder)
    async with AsyncExitStack() as exits:
        ways = {}
        for name, scoring in (("apart", APART), ("merged", (MERGED,))):
            logs = folder / name
            logs.mkdir()
            stack = await exits.enter_async_context(
                local_stack(logs, ignore, models=models, is_merged=name == "merged", settings=PROFILE)
            )
            client = await exits.enter_async_context(AsyncClient(stack.redis_url))
            ways[name] = Way(stack, client, scoring)
        yield ways


async def answer(way: Way, prompts: Sequence[str], n: int, seed: int) -> tuple[list[float], float]:
    """Answer the problems one at a time; return the seconds of each step, and of processors for a step's scores."""
    before, seconds = way.processor_seconds, []
    for number, prompt in enumerate(prompts):
        params = {"method": "gsi", "n": n, "acceptance_threshold": -1e6, "max_steps": STEPS, "seed": seed + number}
        record = await way.client.wait(await way.client.submit({"prompt": prompt, "params": params}))
        if not record.has_succeeded:
            raise RuntimeError(f"a job failed: {record.error}")
        seconds += [step.seconds for step in record.steps]
    return seconds, (way.processor_seconds - before) / len(seconds)


async def measure(num_problems: int, num_rounds: int) -> dict[str, Any]:
    """Return the report."""
    prompts = [problem["prompt"] for problem in held_out_problems(num_problems, skip=DEMO_PROBLEMS)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
        progress.print("starting both systems")
        async with start_ways(Path(folder)) as ways:
            for way in ways.values():
                await answer(way, prompts[:2], 4, seed=10**6)  # warms up
            for n in NS:
                progress.print(f"n = {n}")
                rows.append({"n": n, **await _compare(ways, prompts, n, num_rounds)})
            memory = {name: way.resident_bytes for name, way in ways.items()}
    return {
        **describe_conditions(),
        "load": os.getloadavg()[1],
        "problems": num_problems,
        "rounds": num_rounds,
        "rows": rows,
        "memory": memory,
    }


async def _compare(ways: Mapping[str, Way], prompts: Sequence[str], n: int, num_rounds: int) -> dict[str, Any]:
    steps: dict[str, list[float]] = {name: [] for name in ways}
    scoring: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(num_rounds):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            seconds, used = await answer(ways[name], prompts, n, seed=turn * len(prompts))
            steps[name].append(statistics.fmean(seconds))
            scoring[name].append(used)
    return {
        **{f"seconds_a_step_{name}": statistics.median(of_way) for name, of_way in steps.items()},
        **{f"processor_seconds_{name}": statistics.median(of_way) for name, of_way in scoring.items()},
        "step_ratio": _ratio(steps),
        "processor_ratio": _ratio(scoring),
    }


def _ratio(of_ways: Mapping[str, Sequence[float]]) -> list[float]:
    """Return least, median and most of the rounds' ratios, apart over merged: above 1 one pass saves."""
    ratios = sorted(apart / merged for apart, merged in zip(of_ways["apart"], of_ways["merged"], strict=True))
    return [ratios[0], statistics.median(ratios), ratios[-1]]


def format_report(report: Mapping[str, Any]) -> str:
    """Return the section of RESULTS.md."""
    heads = ["n", "ms a step, apart", "merged", "ratio", "processor ms of scores a step, apart", "merged", "ratio"]
    rows = [
        [
            row["n"],
            *(f"{1000 * row[f'seconds_a_step_{name}']:.0f}" for name in ("apart", "merged")),
            _show(row["step_ratio"]),
            *(f"{1000 * row[f'processor_seconds_{name}']:.0f}" for name in ("apart", "merged")),
            _show(row["processor_ratio"]),
        ]
        for row in report["rows"]
    ]
    memory = {name: f"{size / 1e6:,.0f} MB" for name, size in report["memory"].items()}
    return (
        f"{report['machine']} (load over the last five minutes: {report['load']:.1f}); {report['date']}. "
        f"{report['problems']} problems, {report['rounds']} rounds of each way, "
        f"at most {STEPS} steps an answer, all accepted, one job at a time. *apart*: target and PRM as two services. "
        "*merged*: both heads in one process, which reads each candidate once. Ratio: apart over merged, the median of "
        "the rounds and their range.\n\n"
        f"{tabulate(rows, heads, tablefmt='github', disable_numparse=True, colalign=('right',) * len(heads))}\n\n"
        f"Memory that the scoring processes have for themselves: {memory['apart']} apart, {memory['merged']} merged. "
        "The target has the shape of the shipped one (24 layers of 128), and so has the PRM, which is random: the "
        "table is about cost, not about answers.\n"
    )


def _show(ratio: Sequence[float]) -> str:
    least, median, most = ratio
    return f"{median:.2f} [{least:.2f}, {most:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one object and leave RESULTS.md unchanged")
    given = parser.parse_args()
    publish(run(measure(given.problems, given.rounds)), HEADING, format_report, as_json=given.json)


if __name__ == "__main__":
    main()
