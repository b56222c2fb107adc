"""What a step costs on vLLM: overlapped against one model after the other, and GSI against S-BoN(target).

``make bench-step``. The services are real. Each has one thread, as each has its own device in production. One job runs
at a time. The ways take turns, problem by problem, with different seeds, so that no way profits from another way's
cache.

- *trained*: the shipped family, with neurons of zero weight added until the target takes four to five times as long as
  the draft, the ratio of the paper's models (1.5 B and 7 B). Its acceptance is real; its steps are short and of equal
  length.
- *long steps*: random models, whose steps have 1 to 64 tokens, as reasoning steps do. No step is rejected: this
  measures drafting and scoring.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.models import count_parameters, make_inflated_model, make_random_model
from benchmarks.results import describe_conditions, progress, publish
from gsi.algorithm.candidates import Candidate, Message, Outcome, Prompt, Source, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Params, SamplingParams, StopRules
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches, TextBatches, TokenBatches
from gsi.algorithm.round import Round
from gsi.local.demo import held_out_problems
from gsi.local.stack import Stack, local_stack
from gsi.rpc.clients import DraftClient, PrmClient, TargetClient

NEURONS = {"draft": 28_672, "target": 98_304, "prm": 65_536}  # per MLP; the PRM has three layers, the others two
LONG_SIZES = {"draft": (384, 5), "target": (768, 7), "prm": (768, 7)}  # hidden size, layers
NS = (4, 16)
TRAINED, LONG = "trained", "long steps"
LONG_PARAMS = Params(
    acceptance_threshold=-1000.0, sampling=SamplingParams(max_step_tokens=64), stop=StopRules(max_steps=4)
)
DEMO_PROBLEMS = 24  # the first held-out problems, which benchmarks skip
TIMEOUT_SECONDS = 600.0
NAMES = {"gsi": "GSI, overlapped", "soft-best-of-n": "S-BoN(target), overlapped"}


class OneAfterTheOther:
    """Ports whose models work in turn, as in the code of the paper's authors: draft, then PRM, then target.

    ``run_step`` stays the same. Only the time at which a model receives the candidates changes.
    """

    def __init__(self, ports: Ports) -> None:
        self._own = ports
        self._is_rated = asyncio.Event()
        self.ports = Ports(draft=self, target=_Target(self, ports), prm=_Prm(self, ports))

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self._is_rated.clear()
        proposals = self._own.draft.propose(prefix, n, sampling, seed)
        yield [candidate async for batch in proposals for candidate in batch]

    async def rate(self, scores: ScoreBatches) -> ScoreBatches:
        yield [score async for batch in scores for score in batch]
        self._is_rated.set()

    async def wait_until_rated(self, candidates: TokenBatches) -> TokenBatches:
        async for batch in candidates:
            await self._is_rated.wait()
            yield batch


class _Target:
    """Scores after the PRM, and writes as usual."""

    def __init__(self, turns: OneAfterTheOther, ports: Ports) -> None:
        self._turns, self._own = turns, ports.target

    def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        return join_batches(self._own.propose(prefix, n, sampling, seed))

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        return self._own.score(prefix, sampling, self._turns.wait_until_rated(candidates))


class _Prm:
    """Tells when it has rated all candidates."""

    def __init__(self, turns: OneAfterTheOther, ports: Ports) -> None:
        self._turns, self._own = turns, ports.prm

    def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        return self._turns.rate(self._own.score(messages, steps, candidates))


async def join_batches(proposals: CandidateBatches) -> CandidateBatches:
    """Yield all candidates in one batch once they are written."""
    candidates: list[Candidate] = [candidate async for batch in proposals for candidate in batch]
    yield candidates


async def measure_ways(stack: Stack, params: Params, methods: Sequence[str], num_problems: int) -> dict[str, Any]:
    """Return the figures of each way, and how much longer the target takes than the draft."""
    async with AsyncExitStack() as exits:
        draft = DraftClient(stack.addresses["draft"], TIMEOUT_SECONDS)
        target = TargetClient(stack.addresses["target"], TIMEOUT_SECONDS)
        prm = PrmClient(stack.addresses["prm"], TIMEOUT_SECONDS)
        for client in (draft, target, prm):
            exits.push_async_callback(client.close)
        ports = Ports(draft, target, prm)
        in_turns = OneAfterTheOther(ports).ports
        ways = {"GSI, one after the other": ("gsi", in_turns)} | {NAMES[method]: (method, ports) for method in methods}
        made: dict[tuple[str, int], list[tuple[float, Round]]] = defaultdict(list)
        costs: dict[str, list[float]] = defaultdict(list)
        for number, problem in enumerate(held_out_problems(num_problems + 1, skip=DEMO_PROBLEMS)):
            messages = (Message("user", problem["prompt"]),)
            prompt = Prompt(messages, await draft.render(messages))
            for n in NS:
                for place, (way, (method, own)) in enumerate(ways.items()):
                    steps = await run_job(
                        prompt, replace(params, method=method, role=Source.TARGET, n=n), own, seed=10 * number + place
                    )
                    if number:  # the first problem warms up
                        made[way, n] += steps
                for role, proposer in (("draft", draft), ("target", target)):
                    costs[role].append(await time_proposal(proposer, prompt, n, seed=number))
            progress.print(f"problem {number} of {num_problems}", style="dim", highlight=False)
    cost_ratio = statistics.median(costs["target"]) / statistics.median(costs["draft"])
    ways_by_n = {f"{way}, n = {n}": summarise_steps(steps) for (way, n), steps in made.items()}
    return {"target_over_draft_cost": cost_ratio, "ways": ways_by_n}


async def run_job(
    prompt: Prompt, params: Params, ports: Ports, seed: int, max_length: int = 510
) -> list[tuple[float, Round]]:
    """Run one job; return its steps, each with the seconds from its start to its end."""
    steps: list[tuple[float, Round]] = []
    started = time.perf_counter()

    async def keep(made: Round) -> None:
        nonlocal started
        steps.append((time.perf_counter() - started, made))
        started = time.perf_counter()

    await generate(Trajectory(prompt), params, ports, seed, keep=keep, max_length=max_length)
    return steps


async def time_proposal(proposer: Any, prompt: Prompt, n: int, seed: int) -> float:
    """Return the seconds that a model takes to write n candidates of eight tokens, which is about a step."""
    started = time.perf_counter()
    async for _ in proposer.propose(prompt.token_ids, n, SamplingParams(max_step_tokens=8), seed):
        pass
    return time.perf_counter() - started


def summarise_steps(steps: Sequence[tuple[float, Round]]) -> dict[str, float]:
    return {
        "steps": len(steps),
        "seconds_per_step": statistics.fmean(seconds for seconds, _ in steps),
        "acceptance_rate": statistics.fmean(made.step.outcome is Outcome.ACCEPTED for _, made in steps),
        **{
            f"{source}_{part}_seconds": statistics.fmean(
                sum(proposal.seconds.get(part, 0.0) for proposal in made.by(source)) for _, made in steps
            )
            for source in Source
            for part in ("propose", "target", "prm")
        },
    }


def compare_ways(measured: Mapping[str, Any], ours: str, theirs: str, n: int) -> float:
    """Return the seconds per step of one way divided by those of another way."""
    ways = measured["ways"]
    return float(ways[f"{ours}, n = {n}"]["seconds_per_step"] / ways[f"{theirs}, n = {n}"]["seconds_per_step"])


def summarise_models(models: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the ratios with goals, and the overlap's ratio on short steps."""
    gsi, in_turns, target = NAMES["gsi"], "GSI, one after the other", NAMES["soft-best-of-n"]
    figures = {}
    for n in NS:
        figures[f"overlap_ratio_n{n}"] = compare_ways(models[LONG], gsi, in_turns, n)
        figures[f"overlap_ratio_short_steps_n{n}"] = compare_ways(models[TRAINED], gsi, in_turns, n)
        figures[f"gsi_over_sbon_target_n{n}"] = compare_ways(models[TRAINED], gsi, target, n)
    return figures


GOALS = {"overlap_ratio": "at most 0.75", "gsi_over_sbon_target": "at most 0.6"}


def format_steps(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    lines = [f"One job at a time; {report['machine']}; {report['date']}.", ""]
    for name, measured in report["models"].items():
        sizes = ", ".join(f"{role} {count / 1e6:.0f} M" for role, count in measured["parameters"].items())
        lines.append(
            f"- *{name}*: {sizes} parameters; the target takes {measured['target_over_draft_cost']:.1f} times as "
            "long as the draft to write the same number of candidates of eight tokens."
        )
    lines += [
        "",
        "| models | way | steps | seconds a step | accepted | drafting | until the target's scores | until the PRM's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, measured in report["models"].items():
        lines += [_format_row(name, way, figures) for way, figures in measured["ways"].items()]
    lines += ["", "| figure | measured | goal |", "|---|---|---|"]
    for figure in summarise_models(report["models"]):
        lines.append(f"| `{figure}` | {report[figure]:.2f} | {GOALS.get(figure.rpartition('_')[0], '-')} |")
    return "\n".join(lines) + "\n"


def _format_row(models: str, way: str, figures: Mapping[str, float]) -> str:
    is_gsi = way.startswith("GSI")
    writer = "draft" if is_gsi else "target"
    scored = f"{figures['draft_target_seconds']:.3f}" if is_gsi else "-"
    accepted = f"{figures['acceptance_rate']:.1%}" if is_gsi else "-"
    return (
        f"| {models} | {way} | {figures['steps']} | {figures['seconds_per_step']:.3f} | {accepted} "
        f"| {figures[f'{writer}_propose_seconds']:.3f} | {scored} | {figures[f'{writer}_prm_seconds']:.3f} |"
    )


def make_models(name: str, folder: Path) -> None:
    """Write draft, target and PRM of one kind into a folder."""
    for role, neurons in NEURONS.items():
        if name == TRAINED:
            make_inflated_model(folder / role, role, neurons)
        else:
            hidden_size, num_layers = LONG_SIZES[role]
            make_random_model(folder / role, hidden_size=hidden_size, num_layers=num_layers, is_prm=role == "prm")


async def measure_models(num_problems: int) -> dict[str, Any]:
    measured = {}
    for name, params, methods in (
        (TRAINED, Params(), ("gsi", "soft-best-of-n")),
        (LONG, LONG_PARAMS, ("gsi",)),
    ):
        with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
            models = Path(folder) / "models"
            make_models(name, models)
            parameters = {role: count_parameters(models / role) for role in NEURONS}
            async with local_stack(Path(folder), lambda *_: None, models=models, engine="vllm") as stack:
                measured[name] = await measure_ways(stack, params, methods, num_problems)
            measured[name]["parameters"] = parameters
    return {"problems": num_problems, "models": measured, **summarise_models(measured)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print the report and leave RESULTS.md unchanged")
    given = parser.parse_args()
    report = {**describe_conditions(), **asyncio.run(measure_models(given.problems))}
    publish(report, "Steps on vLLM (`make bench-step`)", format_steps, as_json=given.json)


if __name__ == "__main__":
    main()
