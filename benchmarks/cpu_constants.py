"""What a pass, a FLOP, a sampled token and a call cost on this CPU: the planner's constants, measured in a minute.

The transformers engine reads, writes and scores by its ports, at several batches and depths, on one thread, as each
service of a local system has. The seconds of each call are the sum of its passes, FLOPs and sampled tokens, each times
a constant; non-negative least squares of the relative errors finds the constants. Seconds are those of the processor,
so other programs on the machine disturb the figures less. A shared machine's own speed changes by the minute, up to
twofold, so that means are fitted, and ``plan.py`` measures before and after the jobs whose mean seconds it predicts.
Calls and steps have costs of their own, outside the models.
Jobs whose steps have one token measure these costs, in seconds of the clock: that part wants a quiet machine.
"""

import random
import statistics
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import SamplingParams
from gsi.client.sdk import AsyncClient
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.phases import Model, Phase, Processor, read, write
from gsi.planning.steps import SBON_DRAFT, Setup, Workload, plan_steps
from gsi.planning.systems import System
from gsi.rpc.convert import ReceivedText, ReceivedTokens

ROLES: tuple[Role, ...] = ("draft", "target", "prm")
CONTEXTS = (48, 200)
ROWS = (1, 4, 16)
LENGTHS = (8, 24)
REPEATS = 5
NUM_BYTE_TOKENS = 255  # token ids below it are plain bytes: no end of sequence, no mark
UNIT = Processor(flops=1.0, bandwidth=float("inf"))  # counts: a pass, a FLOP and a token cost one second each
NUM_EMPTY_JOBS, EMPTY_STEPS = 5, 30
EMPTY_PROMPT = "Start with 1."

Observation = tuple[Sequence[Phase], float]  # what a call did, and its seconds


async def observe_models(models: Path) -> dict[Role, list[Observation]]:
    """Time the calls of each model of a folder."""
    return {
        role: await (observe_reward if role == "prm" else observe_language)(models / role, count_model(models, role))
        for role in ROLES
    }


def fit_models(models: Path, *rounds: Mapping[Role, Sequence[Observation]]) -> dict[Role, Model]:
    """Return each model with the constants that explain all rounds of ``observe_models``."""
    return {
        role: replace(count_model(models, role), processor=fit_means([one[role] for one in rounds])) for role in ROLES
    }


def count_model(models: Path, role: Role) -> Model:
    """Return a model whose phases are counted, not timed."""
    return Model(role, find_architecture(role, str(models / role)), UNIT)


def fit_means(rounds: Sequence[Sequence[Observation]]) -> Processor:
    """Return the constants that explain the mean seconds of each call over the rounds."""
    return fit_processor(add_rounds(rounds))


def add_rounds(rounds: Sequence[Sequence[Observation]]) -> list[Observation]:
    """Return each call with what all rounds did in it and how long they took: no two rounds do exactly the same."""
    return [
        ([phase for phases, _ in repeats for phase in phases], sum(seconds for _, seconds in repeats))
        for repeats in zip(*rounds, strict=True)
    ]


def expect_seconds(processor: Processor, phases: Sequence[Phase]) -> float:
    """Return the seconds that phases, counted with ``UNIT``, take with these constants."""
    return sum(
        phase.passes * processor.seconds_per_pass
        + phase.flops / processor.flops
        + phase.is_writing * phase.tokens * processor.seconds_per_token
        for phase in phases
    )


def fit_processor(observations: Sequence[Observation]) -> Processor:
    """Return the constants that explain the seconds best, by the relative errors."""
    counts = np.array([count(phases) for phases, _ in observations], dtype=float)
    seconds = np.array([taken for _, taken in observations])
    scale = np.maximum(counts.max(axis=0), 1.0)  # FLOPs are a million times the others
    found = nnls(counts / scale / seconds[:, None], np.ones(len(seconds)))[0] / scale
    per_pass, per_flop, per_token = map(float, found)
    flops = 1 / per_flop if per_flop else float("inf")
    return Processor(flops, float("inf"), per_pass, per_token, bytes_per_value=4)


def count(phases: Sequence[Phase]) -> tuple[float, float, float]:
    """Return passes, FLOPs and sampled tokens."""
    written = sum(phase.tokens for phase in phases if phase.is_writing)
    return sum(phase.passes for phase in phases), sum(phase.flops for phase in phases), written


async def observe_language(folder: Path, model: Model) -> list[Observation]:
    """Time proposals and scorings of a draft or target, each shape several times. Every prefix is new to any cache."""
    rng = random.Random(0)
    shapes = list_shapes()
    rounds: list[list[Observation]] = []
    with closing(await LANGUAGE_ENGINES.load("transformers", EngineSettings(str(folder), num_threads=1))) as engine:
        await time_proposal(engine, model, rng, *shapes[0])  # warms up
        for _ in range(REPEATS):  # round by round, so that a busy moment does not hit all repeats of a shape
            proposed = [await time_proposal(engine, model, rng, *shape) for shape in shapes]
            rounds.append(proposed + [await time_scoring(engine, model, rng, *shape) for shape in shapes])
    return add_rounds(rounds)


async def observe_reward(folder: Path, model: Model) -> list[Observation]:
    """Time ratings of a PRM, each shape several times."""
    rng = random.Random(0)
    shapes = list_shapes()
    tokenizer = Tokenizer(str(folder), None)
    with closing(await REWARD_ENGINES.load("transformers", EngineSettings(str(folder), num_threads=1))) as engine:
        await time_rating(engine, tokenizer, model, rng, *shapes[0])  # warms up
        rounds = [
            [await time_rating(engine, tokenizer, model, rng, *shape) for shape in shapes] for _ in range(REPEATS)
        ]
    return add_rounds(rounds)


def list_shapes() -> list[tuple[int, int, int]]:
    """Return (tokens of context, candidates, tokens of a candidate) for each call that is timed."""
    return [(context, rows, length) for context in CONTEXTS for rows in ROWS for length in LENGTHS]


async def time_proposal(
    engine: Any, model: Model, rng: random.Random, context: int, rows: int, length: int
) -> Observation:
    """Time the writing of candidates; they may end before ``length`` tokens, and are counted as they are."""
    prefix = [rng.randrange(NUM_BYTE_TOKENS) for _ in range(context)]
    started = time.process_time()
    proposals = engine.propose(prefix, rows, SamplingParams(max_step_tokens=length), rng.randrange(10**6))
    lengths = [len(candidate.token_ids) async for batch in proposals for candidate in batch]
    taken = time.process_time() - started
    written = write(
        "", model, rows=rows, mean=statistics.fmean(lengths), longest=max(lengths) - 1.0, context=float(context)
    )
    return (read_context(model, context), written), taken


async def time_scoring(
    engine: Any, model: Model, rng: random.Random, context: int, rows: int, length: int
) -> Observation:
    prefix = [rng.randrange(NUM_BYTE_TOKENS) for _ in range(context)]
    tokens = [tuple(rng.randrange(NUM_BYTE_TOKENS) for _ in range(length)) for _ in range(rows)]

    async def arriving() -> AsyncGenerator[list[ReceivedTokens], None]:
        yield [ReceivedTokens(index, candidate) for index, candidate in enumerate(tokens)]

    started = time.process_time()
    async for _ in engine.score(prefix, SamplingParams(), arriving()):
        pass
    taken = time.process_time() - started
    scored = read("", model, rows=rows, length=float(length), cached=float(context))
    return (read_context(model, context), scored), taken


async def time_rating(
    engine: Any, tokenizer: Tokenizer, model: Model, rng: random.Random, context: int, rows: int, length: int
) -> Observation:
    messages = (Message("user", make_text(rng, context)),)
    texts = [make_text(rng, length) for _ in range(rows)]

    async def arriving() -> AsyncGenerator[list[ReceivedText], None]:
        yield [ReceivedText(index, text) for index, text in enumerate(texts)]

    started = time.process_time()
    async for _ in engine.score(messages, (), arriving()):
        pass
    taken = time.process_time() - started
    mean = statistics.fmean(len(tokenizer.encode(text)) + 1 for text in texts)
    num_context = len(tokenizer.render(messages))
    return (
        read_context(model, num_context),
        read("", model, rows=rows, length=mean, cached=float(num_context)),
    ), taken


def read_context(model: Model, context: int) -> Phase:
    return read("", model, rows=1, length=float(context), cached=0.0)


def make_text(rng: random.Random, length: int) -> str:
    return "".join(rng.choice("abcdefghij 0123456789") for _ in range(length))


async def measure_calls(client: AsyncClient, setup: Setup) -> System:
    """Return the system of ``setup`` with the costs of its calls and steps, outside the models.

    The jobs have steps of one token. The draft alone writes some of them, which is one call a step; GSI that accepts
    everything writes the others, and target and PRM score them. The planner says how long the models take; the rest of
    a step's time is the calls'.
    """
    alone, rest = await time_empty_steps(client, {"method": "draft"})
    scored, _ = await time_empty_steps(client, {"method": "gsi", "acceptance_threshold": -1e6})
    planned = plan_steps(setup)
    drafting = sum(phase.seconds for phase in planned[SBON_DRAFT].phases if phase.role == "draft")
    per_call = max(0.0, alone - drafting)
    per_scoring = max(0.0, scored - planned["gsi"].first.seconds - per_call)
    return replace(setup.system, seconds_per_call=per_call, seconds_per_scoring=per_scoring, seconds_per_step=rest)


async def time_empty_steps(client: AsyncClient, method: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds of a step of one token, and the seconds a step that a job spends between its steps."""
    fixed = {"n": 1, "max_step_tokens": 1, "max_steps": EMPTY_STEPS, "answer_pattern": None}
    calls, rests = [], []
    for seed in range(NUM_EMPTY_JOBS + 1):  # the first one warms up and is not counted
        job_id = await client.submit({"prompt": EMPTY_PROMPT, "params": {**fixed, **method, "seed": seed}})
        record = (await client.wait(job_id)).to_dict()
        steps = [step["seconds"] for step in record["steps"]]
        if seed:
            calls.append(statistics.median(steps))
            rests.append((record["finished_at"] - record["started_at"] - sum(steps)) / len(steps))
    return statistics.fmean(calls), max(0.0, statistics.fmean(rests))


def describe_empty_steps(tokenizer: Tokenizer) -> Workload:
    """Return the workload of ``time_empty_steps``: a candidate of one token a step."""
    prompt_tokens = len(tokenizer.render((Message("user", EMPTY_PROMPT),)))
    return Workload(
        1, float(prompt_tokens), 1.0, float(EMPTY_STEPS), 10**6, {"gsi": 1.0, "rsd": 1.0}, longest_tokens=1.0
    )


def to_json(model: Model) -> dict[str, Any]:
    """Return a model's constants in the units that people compare: milliseconds, and GFLOP/s."""
    processor = model.processor
    return {
        "parameters": model.architecture.num_parameters,
        "layers": model.architecture.num_hidden_layers,
        "ms_per_pass": 1000 * processor.seconds_per_pass,
        "ms_per_sampled_token": 1000 * processor.seconds_per_token,
        "gflops_per_second": processor.flops / 1e9,
    }
