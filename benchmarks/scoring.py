"""What scoring costs on vLLM: by suffix, by vLLM's default, and the floor of the same requests without scores.

``make bench-scoring``. Random models of about 6 M and 100 M parameters in single precision score 16 candidates of 32
random tokens after contexts of 256, 1,024 and 2,048 tokens. The ways take turns within each repeat, so that a busy
moment of the machine affects all of them. Every candidate is new, so that no way profits from another way's cache.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.models import count_parameters, make_random_model
from benchmarks.results import describe_conditions, progress, publish
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.weighting import logistic
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.engines.reward_profile import load_profile
from gsi.rpc.convert import ReceivedTokens
from gsi.runtime.process_log import configure_logging

STEP_MARK = load_profile("qwen2.5-math-prm").steps.mark_token
CONTEXTS = (256, 1024, 2048)
LONGEST, SHORTEST = str(CONTEXTS[-1]), str(CONTEXTS[0])
NUM_CANDIDATES, CANDIDATE_TOKENS = 16, 32
SIZES = {"6 M": (256, 5), "100 M": (768, 9)}  # hidden size, layers
CACHE_GIB = "4"  # room for keys and values of 16 whole prompts, which vLLM's default way keeps at once
NUM_BYTE_TOKENS = 255  # token ids below it are plain bytes: no end of sequence, no mark
NUM_CHECKED = 4  # candidates per context that are compared with Hugging Face

Tokens = list[int]
Way = Callable[[Tokens, Sequence[Tokens]], Awaitable[list[float]]]  # from a context and candidates to their scores


async def measure_size(size: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds of 16 candidates by way and context, and the largest differences from Hugging Face."""
    hidden_size, num_layers = SIZES[size]
    paths = {
        role: make_random_model(folder / role, hidden_size=hidden_size, num_layers=num_layers, is_prm=role == "prm")
        for role in ("target", "prm")
    }
    rng = random.Random(0)
    seconds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with AsyncExitStack() as exits:
        ways = await start_ways(exits, paths)
        for repeat in range(repeats + 1):  # the first repeat is short and not counted: vLLM warms up
            for length in CONTEXTS if repeat else CONTEXTS[:1]:
                for name, way in ways.items():
                    taken = await time_turn(way, rng, length, is_warm=not name.endswith("cold"))
                    if repeat:
                        seconds[name][length].append(taken)
            progress.print(f"{size}: repeat {repeat} of {repeats}", style="dim", highlight=False)
        differences = {
            role: await measure_difference(ways[f"{role}, suffix, warm"], reference, rng)
            for role, reference in load_references(paths).items()
        }
    return {
        "parameters": count_parameters(paths["target"]),
        "max_abs_diff": differences,
        "seconds": {
            name: {str(length): statistics.median(taken) for length, taken in by_length.items()}
            for name, by_length in seconds.items()
        },
    }


async def time_turn(way: Way, rng: random.Random, length: int, *, is_warm: bool) -> float:
    """Return the seconds of one set of candidates after a context, which is in the cache if ``is_warm``."""
    context = draw_tokens(rng, length)
    if is_warm:
        await way(context, [draw_tokens(rng, CANDIDATE_TOKENS)])
    candidates = [draw_tokens(rng, CANDIDATE_TOKENS) for _ in range(NUM_CANDIDATES)]
    started = time.perf_counter()
    await way(context, candidates)
    return time.perf_counter() - started


async def start_ways(exits: AsyncExitStack, paths: Mapping[str, Path]) -> dict[str, Way]:
    """Start the engines and return every way to ask them. Ways run one at a time, and each may use all cores."""
    settings = {role: EngineSettings(str(path), likelihood=Likelihood.MODEL) for role, path in paths.items()}
    target: Any = exits.enter_context(closing(await LANGUAGE_ENGINES.load("vllm", settings["target"])))
    prm: Any = exits.enter_context(closing(await REWARD_ENGINES.load("vllm", settings["prm"])))
    mark = Tokenizer(str(paths["prm"]), None).token_id(STEP_MARK)

    from vllm.config import PoolerConfig

    from gsi.engines.on_vllm.core import VllmCore

    stock_pooling = {"runner": "pooling", "pooler_config": PoolerConfig(pooling_type="STEP", step_tag_id=mark)}
    stock = exits.enter_context(closing(await VllmCore.start(settings["prm"], stock_pooling)))
    return make_target_ways(target) | make_prm_ways(prm, stock, mark)


def make_target_ways(target: Any) -> dict[str, Way]:
    """Return the ways to score with the target, and the floor: requests that ask for no score."""
    import vllm

    async def score(context: Tokens, candidates: Sequence[Tokens]) -> list[float]:
        async def arriving() -> AsyncGenerator[list[ReceivedTokens], None]:
            yield [ReceivedTokens(index, tuple(candidate)) for index, candidate in enumerate(candidates)]

        answers = target.score(context, SamplingParams(likelihood=Likelihood.MODEL), arriving())
        scores = {score.index: score.value async for batch in answers for score in batch}
        return [scores[index] for index in range(len(candidates))]

    async def score_by_default(context: Tokens, candidate: Tokens) -> float:
        params = vllm.SamplingParams(max_tokens=1, prompt_logprobs=0)
        output = await target.core.generate(context + candidate, params, 0)
        rows = output.prompt_logprobs[-len(candidate) :]
        return sum(row[token].logprob for row, token in zip(rows, candidate, strict=True))

    async def read(context: Tokens, candidate: Tokens) -> float:
        params = vllm.SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        await target.core.generate(context + candidate, params, 0)
        return 0.0

    return {
        "target, suffix, warm": score,
        "target, suffix, cold": score,
        "target, default": ask_together(score_by_default),
        "floor": ask_together(read),
    }


def make_prm_ways(prm: Any, stock: Any, mark: int) -> dict[str, Way]:
    """Return the ways to rate with our PRM engine and with vLLM's stock pooling, which reads a reward at ``mark``."""
    import vllm

    async def rate(context: Tokens, candidate: Tokens) -> float:
        params = vllm.PoolingParams(task="classify", use_activation=False, skip_reading_prefix_cache=False)
        output = await prm.core.encode([*context, *candidate[:-1], mark], params)
        bad, good = output.outputs.data.tolist()
        return logistic(good - bad)

    async def rate_by_default(context: Tokens, candidate: Tokens) -> float:
        output = await stock.encode([*context, *candidate[:-1], mark], vllm.PoolingParams(task="token_classify"))
        return float(output.outputs.data[-1][1])

    return {
        "prm, suffix, warm": ask_together(rate),
        "prm, suffix, cold": ask_together(rate),
        "prm, default": ask_together(rate_by_default),
    }


def ask_together(ask: Callable[[Tokens, Tokens], Awaitable[float]]) -> Way:
    """Return a way that asks for all candidates together, as a step does."""

    async def ask_all(context: Tokens, candidates: Sequence[Tokens]) -> list[float]:
        return list(await asyncio.gather(*(ask(context, candidate) for candidate in candidates)))

    return ask_all


def load_references(paths: Mapping[str, Path]) -> dict[str, Callable[[Tokens, Tokens], float]]:
    """Return the target's and the PRM's score of a candidate by a plain Hugging Face forward pass."""
    target = AutoModelForCausalLM.from_pretrained(paths["target"], dtype=torch.float32).eval()
    prm: Any = Qwen2ForProcessRewardModel.from_pretrained(paths["prm"], dtype=torch.float32)
    mark = Tokenizer(str(paths["prm"]), None).token_id(STEP_MARK)

    @torch.inference_mode()
    def score(context: Tokens, candidate: Tokens) -> float:
        logits = target(torch.tensor([context + candidate])).logits[0, len(context) - 1 : -1]
        return float(torch.log_softmax(logits.double(), dim=-1)[range(len(candidate)), candidate].sum())

    @torch.inference_mode()
    def rate(context: Tokens, candidate: Tokens) -> float:
        logits = prm.eval()(torch.tensor([[*context, *candidate[:-1], mark]])).logits[0, -1]
        return float(torch.softmax(logits.double(), dim=-1)[1])

    return {"target": score, "prm": rate}


async def measure_difference(way: Way, reference: Callable[[Tokens, Tokens], float], rng: random.Random) -> float:
    """Return the largest difference between a way and the reference, before and after the cache is warm."""
    largest = 0.0
    for length in CONTEXTS:
        context = draw_tokens(rng, length)
        candidates = [draw_tokens(rng, CANDIDATE_TOKENS) for _ in range(NUM_CHECKED)]
        for _ in range(2):  # the second time, the cache has everything that it can have
            values = await way(context, candidates)
            expected = [reference(context, candidate) for candidate in candidates]
            largest = max(largest, *(abs(a - b) for a, b in zip(values, expected, strict=True)))
    return largest


def draw_tokens(rng: random.Random, count: int) -> Tokens:
    return [rng.randrange(NUM_BYTE_TOKENS) for _ in range(count)]


def summarise_sizes(sizes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures with goals, of the worse model; the ratios to a context of 256 are of the larger model."""
    seconds = [figures["seconds"] for figures in sizes.values()]
    larger = sizes["100 M"]["seconds"] if "100 M" in sizes else seconds[-1]

    def compare(ours: str, theirs: str) -> list[float]:
        return [by_way[ours][LONGEST] / by_way[theirs][LONGEST] for by_way in seconds]

    return {
        "target_over_floor_2048": max(compare("target, suffix, warm", "floor")),
        "prm_over_floor_2048": max(compare("prm, suffix, warm", "floor")),
        "target_speedup_2048": min(compare("target, default", "target, suffix, warm")),
        "prm_speedup_2048": min(compare("prm, default", "prm, suffix, warm")),
        "target_ratio_2048_to_256": larger["target, suffix, warm"][LONGEST] / larger["target, suffix, warm"][SHORTEST],
        "prm_ratio_2048_to_256": larger["prm, suffix, warm"][LONGEST] / larger["prm, suffix, warm"][SHORTEST],
        "max_abs_diff": max(diff for figures in sizes.values() for diff in figures["max_abs_diff"].values()),
    }


def format_scoring(report: Mapping[str, Any]) -> str:
    """Return the report as a section of RESULTS.md."""
    lines = [
        f"16 candidates of 32 tokens, seconds (median of {report['repeats']}); {report['machine']}; {report['date']}; "
        f"{report['engine']}. The floor: the same requests, cache warm, that ask for no score.",
        "",
        "| model | context | " + " | ".join(next(iter(report["sizes"].values()))["seconds"]) + " |",
        "|---|---|" + "---|" * len(next(iter(report["sizes"].values()))["seconds"]),
    ]
    for size, figures in report["sizes"].items():
        for length in map(str, CONTEXTS):
            values = " | ".join(f"{by_length[length]:.3f}" for by_length in figures["seconds"].values())
            lines.append(f"| {size} | {length} | {values} |")
    lines += ["", "| figure (the worse model; ratios to 256 of the larger) | measured | goal |", "|---|---|---|"]
    goals = {
        "target_over_floor_2048": "at most 1.3",
        "prm_over_floor_2048": "at most 1.3",
        "target_speedup_2048": "at least 10",
        "prm_speedup_2048": "at least 10",
        "target_ratio_2048_to_256": "at most 1.5",
        "prm_ratio_2048_to_256": "at most 1.5",
        "max_abs_diff": "at most 1e-4",
    }
    lines += [f"| `{name}` | {report[name]:.3g} | {goal} |" for name, goal in goals.items()]
    return "\n".join(lines) + "\n"


async def measure_sizes(sizes: Sequence[str], repeats: int) -> dict[str, Any]:
    measured = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="gsi-bench-") as folder:
            measured[size] = await measure_size(size, Path(folder), repeats)
    return {"sizes": measured, **summarise_sizes(measured)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--json", action="store_true", help="print the report and leave RESULTS.md unchanged")
    given = parser.parse_args()
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = CACHE_GIB
    configure_logging("bench-scoring", level="warning")
    measured = asyncio.run(measure_sizes(given.sizes, given.repeats))
    report = {"repeats": given.repeats, **describe_conditions(), "engine": "vLLM", **measured}
    publish(report, "Scoring on vLLM (`make bench-scoring`)", format_scoring, as_json=given.json)


if __name__ == "__main__":
    main()
