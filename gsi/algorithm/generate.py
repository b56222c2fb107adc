"""The loop of Algorithm 1 (GSI paper, line 2): steps until the trajectory is finished."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gsi.algorithm.candidates import Trajectory
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import DEFAULT_ANSWER_PATTERN, Params
from gsi.algorithm.parts import MakeStep
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import HasAnswer, StopReason, stop_reason, tokens_left

Keep = Callable[[Round], Awaitable[None]]

_DEFAULT_ANSWER = re.compile(DEFAULT_ANSWER_PATTERN)


def has_boxed_answer(text: str) -> bool:
    r"""Return whether the text holds a ``\boxed{…}``."""
    return _DEFAULT_ANSWER.search(text) is not None


async def generate(
    trajectory: Trajectory,
    params: Params,
    ports: Ports,
    seed: int,
    *,
    keep: Keep,
    max_length: int,
    has_answer: HasAnswer = has_boxed_answer,
    make_step: MakeStep | None = None,
) -> tuple[Trajectory, StopReason]:
    """Extend ``trajectory`` until it is finished; return it with the reason.

    Each step is given to ``keep`` before the next one starts: a caller that stores it can resume from there with the
    same result. ``max_length`` is the models' context in tokens; ``make_step`` is the method's unless given.
    """
    make_step = make_step or METHODS[params.method]
    while (reason := stop_reason(trajectory, params.stop, has_answer, max_length)) is None:
        made = await make_step(trajectory, limited(params, trajectory, max_length), ports, seed)
        await keep(made)
        trajectory = trajectory.extended(made.step)
    return trajectory, reason


def limited(params: Params, trajectory: Trajectory, max_length: int) -> Params:
    """Return the parameters by which no candidate can pass the job's token limit or the models' context."""
    limit = min(params.sampling.max_step_tokens, tokens_left(trajectory, params.stop, max_length))
    return replace(params, sampling=replace(params.sampling, max_step_tokens=limit))
