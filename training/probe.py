"""Probe the PRM with deliberately wrong steps: what share of each kind does it reject?"""

from __future__ import annotations

import random
from collections.abc import Callable

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from training.grading import Tokens
from training.mistakes import BAD_SHAPES, Place, right_step, wrong_result
from training.rollouts import reward_steps
from training.task import Problem, grade_step, step_pieces
from training.tokenizer import STEP_REWARD, encode_pieces, prompt_tokens

REJECTED_BELOW = 0.5  # GSI's threshold u


def measure_rejections(
    prm: Qwen2ForProcessRewardModel, problems: list[Problem], rng: random.Random
) -> dict[str, float]:
    """Return the share of steps with a reward below 0.5, for right steps and for each kind of mistake."""
    shares: dict[str, float] = {}
    for write in (right_step, wrong_result, *BAD_SHAPES):
        rewards = _rewards(prm, problems, write, rng)
        kind = write.__name__.strip("_").replace("_", " ")
        shares[kind] = sum(reward < REJECTED_BELOW for reward in rewards) / len(rewards)
    return shares


def _rewards(
    prm: Qwen2ForProcessRewardModel,
    problems: list[Problem],
    write: Callable[[Place, random.Random], list[str]],
    rng: random.Random,
) -> list[float]:
    """Return the rewards of one step per problem, at a random place, without bad steps that are right by chance."""
    prefixes: list[Tokens] = []
    steps: list[list[Tokens]] = []
    for problem in problems:
        place, prefix = _draw_place(problem, rng)
        pieces = write(place, rng)
        is_right = grade_step(problem, place.index, place.value, "".join(pieces))
        if is_right == (write is right_step):
            prefixes.append(prefix)
            steps.append([tuple(encode_pieces([*pieces, STEP_REWARD]))])
    return [row[0] for row in reward_steps(prm, prefixes, steps)]


def _draw_place(problem: Problem, rng: random.Random) -> tuple[Place, Tokens]:
    """Draw the number of steps that are already written; return the place and the PRM's prefix."""
    tokens, value = prompt_tokens(problem), problem.start
    num_written = rng.randint(0, len(problem.operations))
    for index, operation in enumerate(problem.operations[:num_written], start=1):
        result = operation.apply(value)
        tokens += encode_pieces([*step_pieces(index, value, operation, result), STEP_REWARD])
        value = result
    return Place(problem, num_written + 1, value), tuple(tokens)
