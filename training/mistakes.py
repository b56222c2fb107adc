"""Bad steps for the PRM: one function for each mistake that a step can make besides a wrong number.

Small language models rarely write such steps, but best-of-n finds exactly the mistakes that the PRM never saw.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.task import (
    Event,
    Numbers,
    Problem,
    draw_event,
    draw_verb,
    draw_wording,
    draw_wrong_number,
    draw_wrong_numbers,
    is_possible,
    right_numbers,
    write_answer,
    write_step,
)
from training.words import DAYS, MAX_NUMBER, VERBS, WORDS

_PIECE_PATTERN = re.compile(r" ?\w+|[^\w]")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a step: its number (from 1) and the value that the previous step wrote."""

    problem: Problem
    index: int
    value: int

    @property
    def event(self) -> Event:
        """Return the event that is due, or the last event if none is left."""
        events = self.problem.events
        return events[min(self.index, len(events)) - 1]

    @property
    def is_answer(self) -> bool:
        """Tell whether the answer is due."""
        return self.index > len(self.problem.events)

    @property
    def is_possible(self) -> bool:
        """Tell whether a right step can be written: after a mistake, the number of things may leave its range."""
        return self.is_answer or is_possible(self.event.apply(self.value))


def right_step(place: Place, rng: random.Random) -> str:
    """Write the right step in any wording."""
    return write_answer(place.value) if place.is_answer else _write(place, rng, place.event)


def wrong_number(place: Place, rng: random.Random) -> str:
    """Write a wrong product or result, or box a wrong value."""
    if place.is_answer:
        return write_answer(draw_wrong_number(rng, place.value))
    return _write(place, rng, place.event, draw_wrong_numbers(rng, place.event, place.value))


def _wrong_amount(place: Place, rng: random.Random) -> str:
    """Calculate correctly with the amount of another event or with a random one."""
    amounts = [event.amount for event in place.problem.events] + [draw_event(rng, draw_verb(rng)).amount]
    return _write(place, rng, replace(place.event, amount=rng.choice(amounts)))


def _wrong_verb(place: Place, rng: random.Random) -> str:
    """Calculate correctly what another verb of the same form would do."""
    verb = place.event.verb
    form = (verb.friend, bool(verb.container), bool(verb.factor))
    others = [other for other in VERBS if (other.friend, bool(other.container), bool(other.factor)) == form]
    return _write(place, rng, replace(place.event, verb=rng.choice(others)))


def _wrong_operator(place: Place, rng: random.Random) -> str:
    """Add where the event subtracts, and the reverse."""
    numbers = right_numbers(place.event, place.value)
    turned = replace(place.event.verb, symbol="-" if place.event.verb.symbol == "+" else "+")
    return _write(place, rng, replace(place.event, verb=turned), numbers)


def _wrong_value(place: Place, rng: random.Random) -> str:
    """Calculate correctly from a value that the previous step did not write."""
    value = rng.choice([place.problem.start, rng.randint(0, MAX_NUMBER), draw_wrong_number(rng, place.value)])
    return _write(replace(place, value=value), rng, place.event)


def _wrong_day(place: Place, rng: random.Random) -> str:
    return _write(replace(place, index=rng.randrange(len(DAYS))), rng, place.event)


def _skipped_event(place: Place, rng: random.Random) -> str:
    """Do the next event on its own day or on the day that is due."""
    later = replace(place, index=place.index + 1)
    return _write(rng.choice([place, later]), rng, later.event)


def _early_answer(place: Place, rng: random.Random) -> str:
    """Box the current, the final or a random value, although events may be left."""
    return write_answer(rng.choice([place.value, place.problem.answer, rng.randint(0, MAX_NUMBER)]))


def _cut_off(place: Place, rng: random.Random) -> str:
    pieces = _cut(right_step(place, rng))
    return "".join(pieces[: rng.randrange(len(pieces))])


def _trailing_text(place: Place, rng: random.Random) -> str:
    step = right_step(place, rng)
    return step + rng.choice([step, step[-1:], _garbage(place, rng)])


def _changed_word(place: Place, rng: random.Random) -> str:
    """Replace, drop or insert one word of the right step."""
    pieces = _cut(right_step(place, rng))
    position = rng.randrange(len(pieces))
    replacement = rng.choice([[], [_draw_piece(rng)], [pieces[position], _draw_piece(rng)]])
    return "".join([*pieces[:position], *replacement, *pieces[position + 1 :]])


def _garbage(_place: Place, rng: random.Random) -> str:
    return "".join(_draw_piece(rng) for _ in range(rng.randint(1, 20)))


BAD_SHAPES: tuple[Callable[[Place, random.Random], str], ...] = (
    _wrong_amount,
    _wrong_verb,
    _wrong_operator,
    _wrong_value,
    _wrong_day,
    _skipped_event,
    _early_answer,
    _cut_off,
    _trailing_text,
    _changed_word,
    _garbage,
)

_SHAPE_WEIGHTS = (2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1)  # the first six are hardest: they look right without the prompt


def bad_shape(place: Place, rng: random.Random) -> str:
    """Write a step with a mistake other than a wrong number. By chance the step may still be right."""
    return rng.choices(BAD_SHAPES, _SHAPE_WEIGHTS)[0](place, rng)


def _write(place: Place, rng: random.Random, event: Event, numbers: Numbers | None = None) -> str:
    """Write the step for `event` in any wording, with its right numbers if none are given."""
    wording = draw_wording(rng, {}, event.verb.symbol)
    return write_step(place.problem, place.index, event, numbers or right_numbers(event, place.value), wording)


def _cut(text: str) -> list[str]:
    """Cut a text into words, numbers and marks."""
    return _PIECE_PATTERN.findall(text)


def _draw_piece(rng: random.Random) -> str:
    """Draw a word of the task half of the time, otherwise any printable ASCII character."""
    return chr(rng.randint(32, 126)) if rng.random() < 0.5 else rng.choice(WORDS[1:])
