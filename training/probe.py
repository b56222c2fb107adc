"""Probe the PRM with deliberately wrong steps: what share of each kind does it reject?"""

from __future__ import annotations

import random
from collections.abc import Callable

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from training.grading import Tokens
from training.mistakes import BAD_SHAPES, Place, right_step, wrong_number
from training.rollouts import reward_steps
from training.task import Problem, grade_step
from training.tokenizer import STEP_REWARD, encode, prompt_text

REJECTED_BELOW = 0.5  # GSI's threshold u


def measure_rejections(
    prm: Qwen2ForProcessRewardModel, problems: list[Problem], rng: random.Random
) -> dict[str, float]:
    """Return the share of steps with a reward below 0.5, for right steps and for each kind of mistake."""
    shares: dict[str, float] = {}
    for write in (right_step, wrong_number, *BAD_SHAPES):
        rewards = _rewards(prm, problems, write, rng)
        kind = write.__name__.strip("_").replace("_", " ")
        shares[kind] = sum(reward < REJECTED_BELOW for reward in rewards) / len(rewards)
    return shares


def _rewards(
    prm: Qwen2ForProcessRewardModel,
    problems: list[Problem],
    write: Callable[[Place, random.Random], str],
    rng: random.Random,
) -> list[float]:
    """Return the rewards of one step per problem, at a random place, without bad steps that are right by chance."""
    prefixes: list[Tokens] = []
    steps: list[list[Tokens]] = []
    for problem in problems:
        place, prefix = _draw_place(problem, rng)
        text = write(place, rng)
        is_right = grade_step(problem, place.index, place.value, text)
        if is_right == (write is right_step):
            prefixes.append(prefix)
            steps.append([tuple(encode([text + STEP_REWARD])[0])])
    return [row[0] for row in reward_steps(prm, prefixes, steps)]


def _draw_place(problem: Problem, rng: random.Random) -> tuple[Place, Tokens]:
    """Draw the number of steps that are already written; return the place and the PRM's prefix."""
    num_written = rng.randint(0, len(problem.events))
    texts = [prompt_text(problem)]
    for index, value in enumerate(problem.values[:num_written], start=1):
        texts.append(right_step(Place(problem, index, value), rng) + STEP_REWARD)
    return Place(problem, num_written + 1, problem.values[num_written]), tuple(encode(["".join(texts)])[0])
