"""The loop of Algorithm 1 (GSI paper, line 2), for every method: rounds until each trajectory is finished."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, reduce

from gsi.algorithm.candidates import Branch, Population, Trajectory, grow
from gsi.algorithm.lookahead import Lookahead, look_ahead
from gsi.algorithm.method import Answers, Method, Unfinished
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import DEFAULT_ANSWER_PATTERN, Params
from gsi.algorithm.ports import NoRoomError, Ports
from gsi.algorithm.room import make_in_room
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import JobRules, StopReason, cut_answer

Keep = Callable[[Round], Awaitable[None]]
Attempt = Callable[[Callable[[], Awaitable[Round]]], Awaitable[Round]]  # makes a call, again where that may help

_DEFAULT_ANSWER = re.compile(DEFAULT_ANSWER_PATTERN)


def find_boxed_answer(text: str) -> str | None:
    r"""Return what the last ``\boxed{…}`` of a text holds; None if it has none."""
    found = list(_DEFAULT_ANSWER.finditer(text))
    return found[-1][1] if found else None


async def are_equal_texts(one: str, other: str) -> bool:
    """Return whether two answers are the same text."""
    return one == other


async def call_once(make: Callable[[], Awaitable[Round]]) -> Round:
    """Make a call and let its errors through."""
    return await make()


BOXED_ANSWERS = Answers(find_boxed_answer, are_equal_texts)


async def generate(
    prompt: Trajectory,
    params: Params,
    ports: Ports,
    seed: int,
    *,
    keep: Keep,
    max_length: int,
    kept: Sequence[Sequence[Branch]] = (),
    answers: Answers = BOXED_ANSWERS,
    attempt: Attempt = call_once,
    lookahead: Lookahead | None = None,
) -> tuple[Trajectory, StopReason]:
    """Write what follows ``prompt`` and the ``kept`` rounds; return the answer's trajectory and why it ended.

    Each round is given to ``keep`` before the next one starts: a caller that stores it can resume from there with the
    same result. ``max_length`` is the models' context in tokens. ``attempt`` makes each round, and may make it again.
    A round that the PRM has no room for ends the answer with the steps before it, those of all trajectories.
    With ``lookahead`` the draft may write a step ahead, which changes nothing but the time.
    """
    method = METHODS[params.method]
    population = reduce(grow, kept, method.start(prompt, params))
    rules = JobRules(params, answers.has_answer, max_length)
    reason_left = StopReason.MAX_STEPS  # of an answer that has no reason of its own to end
    async with look_ahead(lookahead, method, ports, seed, rules) as watch:
        while growing := await _find_growing(method, population, rules, answers, seed):
            try:
                made = await attempt(partial(make_in_room, method, population, growing, watch(growing), seed))
            except NoRoomError:
                if not any(trajectory.steps for trajectory in population):
                    raise  # the PRM cannot read the prompt and a step: there is no answer
                reason_left = StopReason.MAX_TOKENS
                break
            await keep(made)
            population = grow(population, made.branches)
    answer = population[await method.choose(population, params, answers, seed)]
    reason = await asyncio.to_thread(rules.find_reason, answer) or reason_left
    return cut_answer(answer, reason, params.stop), reason


async def _find_growing(
    method: Method, population: Population, rules: JobRules, answers: Answers, seed: int
) -> Sequence[Unfinished]:
    """Return the trajectories that grow in the next round; none if the answer is complete."""
    unfinished = [
        Unfinished(place, trajectory, rules.limit_step(trajectory), rules.is_end)
        for place, trajectory in enumerate(population)
        if await asyncio.to_thread(rules.find_reason, trajectory) is None  # which must not delay other jobs
    ]
    growing = method.pick(population, unfinished, seed)
    return () if growing and await method.is_decided(population, growing, answers) else growing
