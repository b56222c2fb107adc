"""Bad steps for the PRM: one function for each mistake that a step can make besides its arithmetic.

Small language models rarely write such steps, but best-of-n finds exactly the mistakes that the PRM never saw.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from training.task import (
    MAX_OPERATIONS,
    MODULUS,
    STYLE_WORDS,
    Operation,
    Problem,
    answer_pieces,
    draw_operation,
    draw_wrong_result,
    step_pieces,
)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a step: its number (from 1) and the value that the previous step wrote."""

    problem: Problem
    index: int
    value: int

    @property
    def operation(self) -> Operation:
        """Return the operation that is due, or the last operation if none is left."""
        operations = self.problem.operations
        return operations[min(self.index, len(operations)) - 1]

    @property
    def is_answer(self) -> bool:
        """Tell whether the answer is due."""
        return self.index > len(self.problem.operations)


def right_step(place: Place, rng: random.Random) -> list[str]:
    """Write the right step, with or without a style word."""
    if place.is_answer:
        return answer_pieces(place.value)
    return _write(rng, place.index, place.value, place.operation)


def wrong_result(place: Place, rng: random.Random) -> list[str]:
    """Write a wrong result, or box a wrong value."""
    if place.is_answer:
        return answer_pieces(draw_wrong_result(rng, place.value))
    result = draw_wrong_result(rng, place.operation.apply(place.value))
    return step_pieces(place.index, place.value, place.operation, result, _draw_word(rng))


def _wrong_operand(place: Place, rng: random.Random) -> list[str]:
    """Calculate correctly with a random operand, or with the operand of another step."""
    others = [operation.operand for operation in place.problem.operations] + [draw_operation(rng).operand]
    return _write(rng, place.index, place.value, Operation(place.operation.symbol, rng.choice(others)))


def _wrong_operator(place: Place, rng: random.Random) -> list[str]:
    return _write(rng, place.index, place.value, Operation(rng.choice("+-*"), place.operation.operand))


def _wrong_value(place: Place, rng: random.Random) -> list[str]:
    """Calculate correctly from a value that the previous step did not write."""
    value = rng.choice([place.problem.start, rng.randrange(MODULUS), draw_wrong_result(rng, place.value)])
    return _write(rng, place.index, value, place.operation)


def _wrong_number(place: Place, rng: random.Random) -> list[str]:
    index = rng.choice([place.index - 1, place.index + 1, rng.randint(1, MAX_OPERATIONS + 2)])
    return _write(rng, max(1, index), place.value, place.operation)


def _skipped_step(place: Place, rng: random.Random) -> list[str]:
    """Do the next step's operation, under its own number or under the number that is due."""
    skipped = Place(place.problem, place.index + 1, place.value)
    return _write(rng, rng.choice([place.index, place.index + 1]), place.value, skipped.operation)


def _early_answer(place: Place, rng: random.Random) -> list[str]:
    """Box the current, the final or a random value, although operations may be left."""
    return answer_pieces(rng.choice([place.value, place.problem.answer, rng.randrange(MODULUS)]))


def _cut_off(place: Place, rng: random.Random) -> list[str]:
    step = right_step(place, rng)
    return step[: rng.randrange(len(step))]


def _trailing_text(place: Place, rng: random.Random) -> list[str]:
    step = right_step(place, rng)
    return [*step, *rng.choice([step, step[-1:], _garbage(place, rng)])]


def _changed_piece(place: Place, rng: random.Random) -> list[str]:
    """Replace, drop or insert one piece of the right step."""
    step = right_step(place, rng)
    position = rng.randrange(len(step))
    replacement = rng.choice([[], [_draw_piece(rng)], [step[position], _draw_piece(rng)]])
    return [*step[:position], *replacement, *step[position + 1 :]]


def _garbage(_place: Place, rng: random.Random) -> list[str]:
    return [_draw_piece(rng) for _ in range(rng.randint(1, 14))]


BAD_SHAPES: tuple[Callable[[Place, random.Random], list[str]], ...] = (
    _wrong_operand,
    _wrong_operator,
    _wrong_value,
    _wrong_number,
    _skipped_step,
    _early_answer,
    _cut_off,
    _trailing_text,
    _changed_piece,
    _garbage,
)

_SHAPE_WEIGHTS = (2, 2, 2, 2, 2, 1, 1, 1, 1, 1)  # the first five are hardest: they look right without the prompt


def bad_shape(place: Place, rng: random.Random) -> list[str]:
    """Write a step with a mistake other than a wrong result. By chance the step may still be right."""
    return rng.choices(BAD_SHAPES, _SHAPE_WEIGHTS)[0](place, rng)


def _write(rng: random.Random, index: int, value: int, operation: Operation) -> list[str]:
    return step_pieces(index, value, operation, operation.apply(value), _draw_word(rng))


def _draw_word(rng: random.Random) -> str:
    return rng.choice(("", *STYLE_WORDS))


def _draw_piece(rng: random.Random) -> str:
    """Draw a piece of the task's wording half of the time, otherwise any printable ASCII character."""
    if rng.random() < 0.5:
        return chr(rng.randint(32, 126))
    own = (" = ", " + ", " * ", ". ", "\n", f"Step {rng.randint(1, MAX_OPERATIONS)}: ", *STYLE_WORDS)
    return rng.choice((*own, str(rng.randrange(MODULUS)), "The answer is ", "\\boxed{", "}"))
