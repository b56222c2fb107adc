"""Steps as token ids: cutting a solution into steps, joining them for the PRM, and telling which are right."""

from __future__ import annotations

from itertools import pairwise

from training.task import STEP_DELIMITER, Problem, grade_step, written_result
from training.tokenizer import STEP_REWARD, TURN_END, decode_tokens, piece_ids

Tokens = tuple[int, ...]


def split_steps(solution: Tokens) -> list[Tokens]:
    """Cut a solution after each delimiter."""
    delimiter = piece_ids()[STEP_DELIMITER]
    after = [position + 1 for position, token in enumerate(solution) if token == delimiter]
    return [solution[start:end] for start, end in pairwise([0, *after, len(solution)]) if end > start]


def join_step(step: Tokens) -> Tokens:
    """Return a step as the PRM reads it: the stop token, if there is one, gives way to `<extra_0>`."""
    ids = piece_ids()
    body = step[:-1] if step and step[-1] in (ids[STEP_DELIMITER], ids[TURN_END]) else step
    return (*body, ids[STEP_REWARD])


def grade_solution(problem: Problem, solution: Tokens) -> list[tuple[Tokens, bool]]:
    """Return the solution's joined steps and whether each is right.

    It ends at the first step that wrote no result: nothing says what would be right after it.
    """
    graded: list[tuple[Tokens, bool]] = []
    value: int | None = problem.start
    for index, step in enumerate(map(join_step, split_steps(solution)), start=1):
        if value is None:
            break
        text = decode_tokens(step[:-1])
        graded.append((step, grade_step(problem, index, value, text)))
        value = written_result(text)
    return graded
