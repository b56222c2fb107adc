"""The task: chained arithmetic modulo 31, its solutions, the mistakes in solutions, and the splits of the problems.

A prompt reads `Start with 27. Step 1: -29. Step 2: *9. Work mod 31.` Its solution does one operation per step:
`Step 1: 27 - 29 = 29`, then `Step 2: Next 29 * 9 = 13`, then `The answer is \\boxed{13}`. A step's optional *style
word* (`Next `) has no meaning. Draft and target prefer different style words, so their likelihoods differ even where
both are right.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

MODULUS = 31  # prime: with 16 or 32, small models get stuck on a plateau
MIN_OPERATIONS, MAX_OPERATIONS = 4, 6
STYLE_WORDS = ("Next ", "Then ")
STEP_DELIMITER = "\n\n"

Split = Literal["train", "validation", "heldout"]
NUM_BUCKETS = 16  # one bucket is held out, one is for validation, and training uses the rest
HELDOUT_BUCKET, VALIDATION_BUCKET = 0, 1

Style = Mapping[str, tuple[str, float]]  # operation -> (style word, probability that it is written)

_STYLE_PATTERN = re.compile(rf"^(Step \d+: )(?:{'|'.join(STYLE_WORDS)})")
_RESULT_PATTERN = re.compile(r" = (\d+)$")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a chain, such as `* 9`."""

    symbol: str
    operand: int

    def apply(self, value: int) -> int:
        """Return the value after this operation, in 0..30."""
        if self.symbol == "+":
            return (value + self.operand) % MODULUS
        if self.symbol == "-":
            return (value - self.operand) % MODULUS
        return (value * self.operand) % MODULUS


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: a start value in 0..30 and 4 to 6 operations."""

    start: int
    operations: tuple[Operation, ...]

    @property
    def pieces(self) -> list[str]:
        """Return the prompt as the tokenizer cuts it."""
        cut = ["Start with ", str(self.start), ". "]
        for index, operation in enumerate(self.operations, start=1):
            cut += [f"Step {index}: ", operation.symbol, str(operation.operand), ". "]
        return [*cut, f"Work mod {MODULUS}."]

    @property
    def prompt(self) -> str:
        """Return the prompt as text."""
        return "".join(self.pieces)

    @property
    def answer(self) -> int:
        """Return the value after the last operation."""
        value = self.start
        for operation in self.operations:
            value = operation.apply(value)
        return value

    @property
    def split(self) -> Split:
        """Return the problem's split, which a hash of its text decides, so no list can leak or drift."""
        bucket = hashlib.sha256(self.prompt.encode()).digest()[0] % NUM_BUCKETS
        if bucket == HELDOUT_BUCKET:
            return "heldout"
        return "validation" if bucket == VALIDATION_BUCKET else "train"


def draw_operation(rng: random.Random) -> Operation:
    """Draw + and - (operand 1..30) with weight .35 each, * (operand 2..9) with .30."""
    symbol = rng.choices("+-*", weights=(0.35, 0.35, 0.30))[0]
    return Operation(symbol, rng.randint(2, 9) if symbol == "*" else rng.randint(1, MODULUS - 1))


def draw_problem(rng: random.Random, split: Split) -> Problem:
    """Draw one problem that belongs to `split`."""
    while True:
        count = rng.randint(MIN_OPERATIONS, MAX_OPERATIONS)
        problem = Problem(rng.randrange(MODULUS), tuple(draw_operation(rng) for _ in range(count)))
        if problem.split == split:
            return problem


def draw_distinct_problems(rng: random.Random, count: int, split: Split) -> list[Problem]:
    """Draw `count` different problems of `split`."""
    problems: dict[Problem, None] = {}
    while len(problems) < count:
        problems[draw_problem(rng, split)] = None
    return list(problems)


def equation_pieces(value: int, operation: Operation, result: int) -> list[str]:
    """Return `27 - 29 = 29` as the tokenizer cuts it."""
    return [str(value), f" {operation.symbol} ", str(operation.operand), " = ", str(result)]


def step_pieces(index: int, value: int, operation: Operation, result: int, style_word: str = "") -> list[str]:
    """Return step `index` (from 1), without its delimiter, as the tokenizer cuts it."""
    words = [style_word] if style_word else []
    return [f"Step {index}: ", *words, *equation_pieces(value, operation, result)]


def answer_pieces(result: int) -> list[str]:
    """Return the last step, without the end-of-turn token, as the tokenizer cuts it."""
    return ["The answer is ", "\\boxed{", str(result), "}"]


def draw_style_word(rng: random.Random, style: Style, symbol: str) -> str:
    """Draw the style word of a step, or the empty string."""
    word, probability = style.get(symbol, ("", 0.0))
    return word if rng.random() < probability else ""


def draw_wrong_result(rng: random.Random, result: int) -> int:
    """Draw a wrong result: half of them are off by one, three in ten off by ten, and the rest off by any number."""
    kind = rng.random()
    if kind < 0.8:
        distance = 1 if kind < 0.5 else 10
        return (result + rng.choice((-distance, distance))) % MODULUS
    return (result + rng.randrange(1, MODULUS)) % MODULUS


def solve(problem: Problem, rng: random.Random, style: Style, noise: float) -> Iterator[list[str]]:
    """Yield the pieces of each step without its delimiter. A result is wrong with probability `noise`.

    The step after a mistake starts from the wrong value.
    """
    value = problem.start
    for index, operation in enumerate(problem.operations, start=1):
        result = operation.apply(value)
        if rng.random() < noise:
            result = draw_wrong_result(rng, result)
        yield step_pieces(index, value, operation, result, draw_style_word(rng, style, operation.symbol))
        value = result
    yield answer_pieces(value)


def grade_step(problem: Problem, index: int, value: int, text: str) -> bool:
    """Tell whether `text` is the right step `index` (from 1) if the previous step wrote `value`.

    Only the style word is free. Any other number, place or wording is wrong.
    """
    if index > len(problem.operations):
        return text == "".join(answer_pieces(value))
    operation = problem.operations[index - 1]
    expected = "".join(step_pieces(index, value, operation, operation.apply(value)))
    return _STYLE_PATTERN.sub(r"\1", text) == expected


def read_result(text: str) -> int | None:
    """Return the result in a step's text, or None if there is no valid result."""
    match = _RESULT_PATTERN.search(text)
    return int(match[1]) if match and int(match[1]) < MODULUS else None
