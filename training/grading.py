"""Steps as token ids: splitting a solution into steps, joining steps for the PRM, and grading steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from training.task import Problem, grade_step, list_right_steps, read_result
from training.tokenizer import STEP_REWARD, TURN_END, decode, decode_each, token_ids
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


def grade_tokens(problem: Problem, index: int, value: int, step: Tokens) -> list[bool]:
    """Tell of each token of a joined step whether the step, as far as that token, can still become a right step.

    The last token, `<extra_0>`, ends the step: it is right if the whole step is.
    """
    right = list_right_steps(problem, index, value)
    grades: list[bool] = []
    text = ""
    for piece in decode_each(step[:-1]):
        text += piece
        right = [wording for wording in right if wording.startswith(text)]
        grades.append(bool(right))
    return [*grades, text in right]


def grade_solution(problem: Problem, solution: Tokens) -> list[tuple[Tokens, bool]]:
    """Return the joined steps of `place_steps` and whether each is right."""
    return [
        (step, grade_step(problem, index, value, decode(step[:-1])))
        for index, value, step in place_steps(problem, solution)
    ]


def place_steps(problem: Problem, solution: Tokens) -> Iterator[tuple[int, int, Tokens]]:
    """Yield the number of each joined step (from 1), the value that the step before wrote, and the step.

    The last is the first step without a result, since no value says what would be right after it.
    """
    value: int | None = problem.start
    for index, step in enumerate(map(join_step, split_steps(solution)), start=1):
        if value is None:
            break
        yield index, value, step
        value = read_result(decode(step[:-1]))


@dataclass(frozen=True, slots=True)
class Judged:
    """One sequence for the PRM: token ids, and each token's label (1 right, 0 wrong), -100 in the prompt."""

    tokens: list[int]
    labels: list[int]

    def add(self, step: Tokens, grades: list[bool]) -> None:
        """Append a joined step and the grades of its tokens."""
        self.tokens.extend(step)
        self.labels.extend(map(int, grades))
