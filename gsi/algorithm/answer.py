"""An answer by whichever method: the loop that fits it, from the rounds that an earlier attempt kept."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec

from gsi.algorithm.candidates import Branch, Trajectory, grown
from gsi.algorithm.generate import Keep, generate
from gsi.algorithm.methods import METHODS, search_of
from gsi.algorithm.methods.rounds import Answers
from gsi.algorithm.params import Params
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.algorithm.search import search
from gsi.algorithm.stopping import StopReason, stop_reason

P = ParamSpec("P")

Attempt = Callable[[Callable[[], Awaitable[Round]]], Awaitable[Round]]  # makes a call, again where that may help


async def write_answer(
    prompt: Trajectory,
    kept: Sequence[Sequence[Branch]],
    params: Params,
    ports: Ports,
    seed: int,
    *,
    keep: Keep,
    max_length: int,
    answers: Answers,
    attempt: Attempt,
) -> tuple[Trajectory, StopReason]:
    """Write what follows ``prompt`` and the ``kept`` rounds; return the answer's trajectory and why it ended."""

    def has_answer(text: str) -> bool:
        return answers.find(text) is not None

    def patient(make: Callable[P, Awaitable[Round]]) -> Callable[P, Awaitable[Round]]:
        async def made(*args: P.args, **kwargs: P.kwargs) -> Round:
            return await attempt(lambda: make(*args, **kwargs))

        return made

    method = search_of(params)
    population = (prompt,) if method is None else method.start(prompt, params)
    for branches in kept:
        population = grown(population, branches)
    if method is None:
        make_step = patient(METHODS[params.method])
        return await generate(
            population[0],
            params,
            ports,
            seed,
            keep=keep,
            max_length=max_length,
            has_answer=has_answer,
            make_step=make_step,
        )
    make_round = patient(method.make_round)
    population = await search(
        population, params, ports, seed, make_round=make_round, keep=keep, max_length=max_length, has_answer=has_answer
    )
    chosen = population[await method.choose(population, params, answers)]
    return chosen, stop_reason(chosen, params.stop, has_answer, max_length) or StopReason.MAX_STEPS
