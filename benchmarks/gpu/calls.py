"""The seconds of one call of a model, by what it does: write candidates, score them behind a context, rate them."""

import random
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.checkpoints import draw_text, draw_tokens
from gsi.algorithm.candidates import Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import Ports
from gsi.planning.architecture import Role
from gsi.rpc.convert import ReceivedText, ReceivedTokens

CONTEXTS = (256, 1024, 2048)
NUM_CANDIDATES, CANDIDATE_TOKENS = 16, 80
REPEATS = 5  # the first of which is not counted
SAMPLING = SamplingParams(max_step_tokens=CANDIDATE_TOKENS)


@dataclass(frozen=True, slots=True)
class Call:
    """What a model did, and the median of its seconds. ``rows`` of ``tokens`` each behind ``context`` tokens.

    ``mean_tokens`` and ``longest_tokens``: of what it wrote; ``tokens`` where it read.
    """

    role: Role
    does: str
    rows: int
    context: int
    mean_tokens: float
    longest_tokens: float
    seconds: float


async def measure_calls(ports: Ports) -> list[dict[str, Any]]:
    """Return each call's figures."""
    rng = random.Random(1)
    calls = [
        await _write(ports, "draft", NUM_CANDIDATES, rng),
        await _write(ports, "target", NUM_CANDIDATES, rng),
        await _write(ports, "target", 1, rng),
    ]
    for context in CONTEXTS:
        calls.append(await _read("target", context, lambda length: _score(ports, rng, length)))
        calls.append(await _read("prm", context, lambda length: _rate(ports, rng, length)))
    return [asdict(call) for call in calls]


async def _write(ports: Ports, role: Role, n: int, rng: random.Random) -> Call:
    model = ports.draft if role == "draft" else ports.target
    context = CONTEXTS[0]
    taken: list[float] = []
    lengths: list[list[int]] = []
    for repeat in range(REPEATS):
        prefix = draw_tokens(rng, context)
        async for _ in model.propose(prefix, 1, SamplingParams(max_step_tokens=1), seed=repeat):
            pass  # the context is in the cache now, as it is in all steps but the first
        started = time.perf_counter()
        batches = model.propose(prefix, n, SAMPLING, seed=repeat)
        lengths.append([len(candidate.token_ids) async for batch in batches for candidate in batch])
        taken.append(time.perf_counter() - started)
    return Call(
        role=role,
        does="writes",
        rows=n,
        context=context,
        mean_tokens=statistics.fmean(length for each in lengths[1:] for length in each),
        longest_tokens=statistics.fmean(map(max, lengths[1:])),
        seconds=statistics.median(taken[1:]),
    )


async def _read(role: Role, context: int, time_call: Callable[[int], Awaitable[float]]) -> Call:
    taken = [await time_call(context) for _ in range(REPEATS)][1:]
    tokens = float(CANDIDATE_TOKENS)
    return Call(role, "reads", NUM_CANDIDATES, context, tokens, tokens, statistics.median(taken))


async def _score(ports: Ports, rng: random.Random, context: int) -> float:
    """Return the seconds in which the target scores candidates behind a context that it has in its cache."""
    prefix = draw_tokens(rng, context)

    async def score(candidates: Sequence[Sequence[int]]) -> float:
        async def arriving() -> AsyncGenerator[list[ReceivedTokens], None]:
            yield [ReceivedTokens(index, tuple(tokens)) for index, tokens in enumerate(candidates)]

        started = time.perf_counter()
        async for _ in ports.target.score(prefix, SAMPLING, arriving()):
            pass
        return time.perf_counter() - started

    await score([draw_tokens(rng, CANDIDATE_TOKENS)])
    return await score([draw_tokens(rng, CANDIDATE_TOKENS) for _ in range(NUM_CANDIDATES)])


async def _rate(ports: Ports, rng: random.Random, context: int) -> float:
    """Return the seconds in which the PRM rates candidates behind a prompt that it has in its cache."""
    messages = (Message("user", draw_text(rng, context)),)

    async def rate(num_candidates: int) -> float:
        texts = [draw_text(rng, CANDIDATE_TOKENS) for _ in range(num_candidates)]

        async def arriving() -> AsyncGenerator[list[ReceivedText], None]:
            yield [ReceivedText(index, text) for index, text in enumerate(texts)]

        started = time.perf_counter()
        async for _ in ports.prm.score(messages, (), arriving()):
            pass
        return time.perf_counter() - started

    await rate(1)
    return await rate(NUM_CANDIDATES)
