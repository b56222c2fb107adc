"""Steps as token ids: splitting a solution into steps, joining steps for the PRM, and grading steps."""

from __future__ import annotations

from itertools import pairwise

from training.task import Problem, grade_step, read_result
from training.tokenizer import STEP_REWARD, TURN_END, decode, token_ids
from training.words import STEP_DELIMITER

Tokens = tuple[int, ...]


def split_steps(solution: Tokens) -> list[Tokens]:
    """Cut a solution after each delimiter."""
    delimiter = token_ids()[STEP_DELIMITER]
    after = [position + 1 for position, token in enumerate(solution) if token == delimiter]
    return [solution[start:end] for start, end in pairwise([0, *after, len(solution)]) if end > start]


def join_step(step: Tokens) -> Tokens:
    """Return a step as the PRM reads it: with `<extra_0>` at the end, in place of a stop token."""
    ids = token_ids()
    body = step[:-1] if step and step[-1] in (ids[STEP_DELIMITER], ids[TURN_END]) else step
    return (*body, ids[STEP_REWARD])


def grade_solution(problem: Problem, solution: Tokens) -> list[tuple[Tokens, bool]]:
    """Return the solution's joined steps and whether each is right.

    The last graded step is the first step without a result, since no value says what would be right after it.
    """
    graded: list[tuple[Tokens, bool]] = []
    value: int | None = problem.start
    for index, step in enumerate(map(join_step, split_steps(solution)), start=1):
        if value is None:
            break
        text = decode(step[:-1])
        graded.append((step, grade_step(problem, index, value, text)))
        value = read_result(text)
    return graded
