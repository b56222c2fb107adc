"""Seconds of the steps of GSI, and of the methods beside it: one job at a time calls the services directly."""

import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.checkpoints import draw_text
from benchmarks.step import OneAfterTheOther, run_job
from gsi.algorithm.candidates import Message, Outcome, Prompt, Source
from gsi.algorithm.params import Params, SamplingParams, StopRules
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round

N, MAX_STEP_TOKENS = 16, 80
NUM_STEPS, NUM_PROMPTS = 4, 4  # of a job; the first prompt warms up
PROMPT_TOKENS = 130  # as gsi plan takes it
PLAIN_PROMPTS = 8  # most samples of one candidate are cut at the limit: those are counted
MAX_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Way:
    """A method with its parameters. ``is_in_turns``: each model waits for the one before it."""

    name: str
    params: Params
    is_in_turns: bool = False
    num_prompts: int = NUM_PROMPTS


def _make_params(**given: Any) -> Params:
    sampling, stop = SamplingParams(max_step_tokens=MAX_STEP_TOKENS), StopRules(max_steps=NUM_STEPS)
    return Params(n=N, sampling=sampling, stop=stop, **given)


ACCEPTED, IN_TURNS, REJECTED, SBON, PLAIN = (
    "GSI, every step accepted",
    "GSI, every step accepted, one model after the other",
    "GSI, every step rejected",
    "S-BoN(target)",
    "the target alone",
)
WAYS = (
    Way(ACCEPTED, _make_params(acceptance_threshold=-1000.0)),
    Way(IN_TURNS, _make_params(acceptance_threshold=-1000.0), is_in_turns=True),
    Way(REJECTED, _make_params(acceptance_threshold=1000.0)),
    Way(SBON, _make_params(method="soft-best-of-n", role=Source.TARGET)),
    Way(PLAIN, _make_params(method="target"), num_prompts=PLAIN_PROMPTS),
)


Render = Callable[[Sequence[Message]], Awaitable[tuple[int, ...]]]


async def measure_steps(ports: Ports, render: Render) -> dict[str, dict[str, float]]:
    """Return the figures of each way; ``render`` returns the token ids of a conversation.

    The ways take turns, prompt by prompt, each with prompts of its own.
    """
    rng = random.Random(0)
    in_turns = OneAfterTheOther(ports).ports
    made: dict[str, list[tuple[float, Round]]] = {way.name: [] for way in WAYS}
    for number in range(PLAIN_PROMPTS):
        for way in WAYS:
            if number < way.num_prompts:
                messages = (Message("user", draw_text(rng, PROMPT_TOKENS)),)
                prompt = Prompt(messages, await render(messages))
                own = in_turns if way.is_in_turns else ports
                steps = await run_job(prompt, way.params, own, seed=number, max_length=MAX_TOKENS)
                made[way.name] += steps if number else []
    return {name: summarise_way(steps, is_plain=name == PLAIN) for name, steps in made.items()}


def summarise_way(steps: Sequence[tuple[float, Round]], *, is_plain: bool) -> dict[str, float]:
    """Return the means over the steps; of the target alone, over the steps that were cut at the limit."""
    counted = [(seconds, made) for seconds, made in steps if not is_plain or _longest(made) == MAX_STEP_TOKENS]
    if not counted:
        return {"steps": 0}
    lengths = [[len(c.token_ids) for c in made.proposals[0].candidates] for _, made in counted]
    return {
        "steps": len(counted),
        "seconds_per_step": statistics.fmean(seconds for seconds, _ in counted),
        "accepted": statistics.fmean(made.step.outcome is Outcome.ACCEPTED for _, made in counted),
        "drafting_seconds": statistics.fmean(made.proposals[0].seconds["propose"] for _, made in counted),
        "mean_tokens": statistics.fmean(length for each in lengths for length in each),
        "shortest_tokens": statistics.fmean(map(min, lengths)),
        "longest_tokens": statistics.fmean(map(max, lengths)),
    }


def _longest(made: Round) -> int:
    return max(len(candidate.token_ids) for candidate in made.proposals[0].candidates)
