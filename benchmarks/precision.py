"""What half precision does to likelihoods, and how much of it the last layer is to blame for.

``make bench-precision`` (ARGS="--json", ARGS="--engine transformers"). The shipped draft writes steps for held-out
problems in single precision. Draft and target then score the same steps in single precision, in bfloat16, and in
bfloat16 with a last layer in single precision. Reported are the differences from single precision: of log pi_B, of
log pi_S, and of the tilted reward, which has their difference over beta. Besides, each engine scores what it wrote
itself: an engine that batches differently then agrees with itself up to rounding only.
"""

import argparse
import asyncio
import os
import statistics
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from benchmarks.results import describe_conditions, progress, publish
from gsi.algorithm.candidates import Candidate, Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import TokenSequence
from gsi.engines.base import SAME_AS_MODEL, EngineSettings, LanguageEngine
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.local.demo import held_out_problems
from gsi.runtime.installation import SHIPPED_MODELS
from gsi.runtime.process_log import configure_logging

NUM_CANDIDATES, SEED = 8, 7
BETA = 20.0  # the paper's
SAMPLING = SamplingParams()
EXACT = "float32"
FORMATS = {  # the format of the weights, and that of the last layer
    EXACT: ("float32", SAME_AS_MODEL),
    "bfloat16": ("bfloat16", SAME_AS_MODEL),
    "bfloat16, last layer float32": ("bfloat16", "float32"),
}


@dataclass(frozen=True, slots=True)
class Written:
    """The candidates of one step, and the prefix in front of them."""

    prefix: tuple[int, ...]
    candidates: Sequence[Candidate]


async def measure(engine: str, num_problems: int) -> dict[str, Any]:
    """Return the differences of each format from single precision, and of each engine from itself."""
    steps: list[Written] = []
    values: dict[tuple[str, str], list[float]] = {}
    own: dict[str, list[float]] = {}
    for form, (dtype, head_dtype) in FORMATS.items():
        for role in ("draft", "target"):
            settings = EngineSettings(str(SHIPPED_MODELS / role), dtype=dtype, head_dtype=head_dtype, num_threads=1)
            with closing(await LANGUAGE_ENGINES.load(engine, settings)) as model:
                mine = await write_steps(model, num_problems)
                steps = steps or mine
                values[form, role] = await score_steps(model, steps)
                again = await score_steps(model, mine)
            written = [candidate.log_likelihood for step in mine for candidate in step.candidates]
            own.setdefault(form, []).extend(one - other for one, other in zip(written, again, strict=True))
            progress.print(f"{form}: {role}", style="dim", highlight=False)
    lengths = [len(candidate.token_ids) for step in steps for candidate in step.candidates]
    return {
        **describe_conditions(),
        "engine": engine,
        "candidates": len(lengths),
        "tokens_per_candidate": statistics.mean(lengths),
        "formats": {form: compare(form, values, own[form]) for form in FORMATS},
    }


async def write_steps(model: LanguageEngine, num_problems: int) -> list[Written]:
    """Let a model write candidates for the first step of each problem."""
    steps = []
    for problem in held_out_problems(num_problems):
        prefix = model.render((Message("user", problem["prompt"]),))
        batches = model.propose(prefix, NUM_CANDIDATES, SAMPLING, SEED)
        candidates = [candidate async for batch in batches for candidate in batch]
        steps.append(Written(prefix, sorted(candidates, key=lambda candidate: candidate.index)))
    return steps


async def score_steps(model: LanguageEngine, steps: Sequence[Written]) -> list[float]:
    """Return the log-likelihood (nats) of every candidate, in order."""

    async def arriving(candidates: Sequence[TokenSequence]) -> AsyncGenerator[Sequence[TokenSequence], None]:
        yield candidates

    found = []
    for step in steps:
        answers = model.score(step.prefix, SAMPLING, arriving(step.candidates))
        scores = {score.index: score.value async for batch in answers for score in batch}
        found += [scores[candidate.index] for candidate in step.candidates]
    return found


def compare(form: str, values: Mapping[tuple[str, str], Sequence[float]], own: Sequence[float]) -> dict[str, Any]:
    """Return the mean and the largest absolute difference (nats, or reward) of each quantity."""

    def off(role: str) -> list[float]:
        return [one - exact for one, exact in zip(values[form, role], values[EXACT, role], strict=True)]

    target, draft = off("target"), off("draft")
    tilted = [(of_target - of_draft) / BETA for of_target, of_draft in zip(target, draft, strict=True)]
    quantities = {"log_pi_b": target, "log_pi_s": draft, "tilted_reward": tilted, "written_and_scored": own}
    return {
        name: {"mean": statistics.mean(map(abs, found)), "max": max(map(abs, found))}
        for name, found in quantities.items()
    }


def form_report(report: Mapping[str, Any]) -> str:
    """Word the report for RESULTS.md."""
    names = {
        "log_pi_b": "log pi_B, nats",
        "log_pi_s": "log pi_S, nats",
        "tilted_reward": f"tilted reward, beta = {BETA:.0f}",
        "written_and_scored": "an engine from itself, nats",
    }
    rows = [
        f"| {form} | " + " | ".join(f"{found[name]['mean']:.2g} / {found[name]['max']:.2g}" for name in names) + " |"
        for form, found in report["formats"].items()
    ]
    return (
        f"{report['machine']}, {report['date']}, `make bench-precision`. The shipped models on {report['engine']}; "
        f"{report['candidates']} first steps of {report['tokens_per_candidate']:.0f} tokens. Differences from single "
        "precision, mean / largest.\n\n"
        f"| weights | {' | '.join(names.values())} |\n|---|{'---|' * len(names)}\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="vllm", choices=("vllm", "transformers"))
    parser.add_argument("--problems", type=int, default=12, help="each has 8 candidates (default 12)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; do not write RESULTS.md")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    configure_logging("precision", "auto", "warning")
    report = asyncio.run(measure(args.engine, args.problems))
    publish(report, "Half precision", form_report, as_json=args.json)


if __name__ == "__main__":
    main()
