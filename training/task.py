"""The task: word problems in plain English, their solutions, and the splits of the problems.

A problem reads `On Sunday Mia has 12 shells. On Monday Tom brings her 3 bags of 4 shells. On Tuesday she loses 5
shells. How many shells does Mia have at the end?` Its solution has one sentence a step: `On Monday Tom brings her 3
bags of 4 shells, that is 3 * 4 = 12 shells, so Mia now has 12 + 12 = 24 shells.`, `Then on Tuesday she loses 5 shells,
and then Mia has 24 - 5 = 19 shells left.`, `The answer is \\boxed{19}`. A step's *wording* has no meaning. Draft and
target prefer different wordings, so their likelihoods differ even where both are right.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from training.words import (
    DAYS,
    ENDINGS,
    LINKS,
    MAX_NUMBER,
    OPENINGS,
    PEOPLE,
    POSSESSIONS,
    THINGS,
    VERBS,
    Symbol,
    Verb,
    Wording,
    all_wordings,
)

MIN_VALUE, MAX_VALUE = 2, MAX_NUMBER  # from 2, since a sentence has the plural
MAX_START = 60  # lower than the values, so that doubling is often possible
MIN_EVENTS, MAX_EVENTS = 3, 6
MAX_AMOUNT = 20  # things that change hands at once without groups
MAX_GROUPS, MAX_GROUP_SIZE, MAX_PRODUCT = 6, 9, 30
CONTAINER_WEIGHT = 0.8  # of a verb with groups, when one is drawn: such steps are long

Split = Literal["train", "validation", "heldout"]
NUM_BUCKETS = 16  # one bucket is held out, one is for validation, and training uses the rest
HELDOUT_BUCKET, VALIDATION_BUCKET = 0, 1

Style = Mapping[str, Mapping[str, float]]  # symbol -> opening, link, possession or ending -> its weight, 1 if absent

_RESULT_PATTERN = re.compile(r" = (\d+) [a-z]+(?: left| in all)?\.$")


@dataclass(frozen=True, slots=True)
class Event:
    """What happens on one day: the number of things grows, shrinks, or is multiplied."""

    verb: Verb
    amount: int  # things, or the factor of `doubles`
    groups: int = 0  # groups of `amount` things; 0 if the event has none
    friend: str = ""

    @property
    def operand(self) -> int:
        """Return the number that is added, subtracted or multiplied with."""
        return self.amount * (self.groups or 1)

    def apply(self, value: int) -> int:
        """Return the number of things after this event."""
        return calculate(value, self.verb.symbol, self.operand)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: who has how many things, and what happens on the days that follow."""

    hero: str
    thing: str
    first_day: int
    start: int
    events: tuple[Event, ...]

    @property
    def sentences(self) -> list[str]:
        """Return the start and what happens on each day."""
        sentences = [f"On{self.day(0)}{self.hero} has {self.start}{self.thing}."]
        for index, event in enumerate(self.events, start=1):
            sentences.append(f" On{self.day(index)}{write_clause(event, self.hero, self.thing)}.")
        return sentences

    @property
    def prompt(self) -> str:
        """Return the problem as text."""
        return "".join([*self.sentences, f" How many{self.thing} does{self.hero} have at the end?"])

    @property
    def answer(self) -> int:
        """Return the number of things after the last event."""
        return self.values[-1]

    @property
    def values(self) -> list[int]:
        """Return the number of things at the start and after each event."""
        values = [self.start]
        for event in self.events:
            values.append(event.apply(values[-1]))
        return values

    @property
    def split(self) -> Split:
        """Return the split to which the problem belongs."""
        return split_of(self.prompt)

    def day(self, index: int) -> str:
        """Return the day of event `index` (from 1), or of the start (0)."""
        return DAYS[(self.first_day + index) % len(DAYS)]


def split_of(prompt: str) -> Split:
    """Return a prompt's split, which a hash of its text decides, so no list can leak or drift."""
    bucket = hashlib.sha256(prompt.encode()).digest()[0] % NUM_BUCKETS
    if bucket == HELDOUT_BUCKET:
        return "heldout"
    return "validation" if bucket == VALIDATION_BUCKET else "train"


def calculate(value: int, symbol: Symbol, operand: int) -> int:
    """Return the result of one operation."""
    if symbol == "+":
        return value + operand
    return value - operand if symbol == "-" else value * operand


def write_clause(event: Event, hero: str, thing: str) -> str:
    """Return what happens, in the words of the problem and of its solution."""
    verb = event.verb
    joined = verb.join(hero)
    if verb.factor:
        return f"{joined} the{thing}"
    amount = f" {event.groups}{verb.container} {event.amount}" if event.groups else f" {event.amount}"
    actors = {"": joined, "subject": f"{event.friend}{joined}", "object": f"{joined}{event.friend}"}
    return f"{actors[verb.friend]}{amount}{thing}"


def draw_event(rng: random.Random, verb: Verb, friends: Sequence[str] = PEOPLE) -> Event:
    """Draw an event with `verb`, and one of the friends if the verb needs one."""
    if verb.factor:
        return Event(verb, verb.factor)
    friend = rng.choice(friends) if verb.friend else ""
    if not verb.container:
        return Event(verb, rng.randint(2, MAX_AMOUNT), friend=friend)
    amount, groups = draw_groups(rng)
    return Event(verb, amount, groups, friend)


def draw_verb(rng: random.Random, verbs: Sequence[Verb] = VERBS) -> Verb:
    """Draw one of the verbs."""
    return rng.choices(verbs, [CONTAINER_WEIGHT if verb.container else 1.0 for verb in verbs])[0]


def draw_groups(rng: random.Random) -> tuple[int, int]:
    """Draw the size and the number of groups, both at least 2."""
    groups = rng.randint(2, MAX_GROUPS)
    return rng.randint(2, min(MAX_GROUP_SIZE, MAX_PRODUCT // groups)), groups


def draw_problem(rng: random.Random, split: Split, count: int | None = None) -> Problem:
    """Draw one problem that belongs to `split`, with `count` events if it is given."""
    while True:
        problem = _draw_any_problem(rng, count or rng.randint(MIN_EVENTS, MAX_EVENTS))
        if problem.split == split:
            return problem


def _draw_any_problem(rng: random.Random, count: int) -> Problem:
    hero = rng.choice(PEOPLE)
    start = value = rng.randint(MIN_VALUE, MAX_START)
    events: list[Event] = []
    while len(events) < count:
        taken = {hero, *(event.friend for event in events)}
        unused = [verb for verb in VERBS if all(verb != event.verb for event in events)]
        event = draw_event(rng, draw_verb(rng, unused), [name for name in PEOPLE if name not in taken])
        if is_possible(event.apply(value)):
            events.append(event)
            value = event.apply(value)
    return Problem(hero, rng.choice(THINGS), rng.randrange(len(DAYS)), start, tuple(events))


def is_possible(value: int) -> bool:
    """Tell whether a problem may have this number of things."""
    return MIN_VALUE <= value <= MAX_VALUE


def draw_distinct_problems(rng: random.Random, count: int, split: Split) -> list[Problem]:
    """Draw `count` different problems of `split`."""
    problems: dict[Problem, None] = {}
    while len(problems) < count:
        problems[draw_problem(rng, split)] = None
    return list(problems)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that a step writes: those of its equations may be wrong."""

    value: int
    operand: int
    result: int


def right_numbers(event: Event, value: int) -> Numbers:
    """Return the numbers of the right step from `value`."""
    return Numbers(value, event.operand, event.apply(value))


def write_step(problem: Problem, index: int, event: Event, numbers: Numbers, wording: Wording) -> str:
    """Return the step for `event` on the day of event `index` (from 1), without its delimiter."""
    clause = write_clause(event, problem.hero, problem.thing)
    product = f", that is {event.groups} * {event.amount} = {numbers.operand}{problem.thing}" if event.groups else ""
    equation = f" {numbers.value} {event.verb.symbol} {numbers.operand} = {numbers.result}{problem.thing}"
    opening = f"{wording.opening}{problem.day(index)}"
    return f"{opening}{clause}{product}{wording.link}{problem.hero}{wording.possession}{equation}{wording.ending}"


def write_answer(result: int) -> str:
    """Return the last step, without the end-of-turn token."""
    return f"The answer is \\boxed{{{result}}}"


def draw_wording(rng: random.Random, style: Style, symbol: Symbol) -> Wording:
    """Draw the wording of a step."""
    weights = style.get(symbol, {})

    def draw(words: tuple[str, ...]) -> str:
        return rng.choices(words, [weights.get(word, 1.0) for word in words])[0]

    return Wording(draw(OPENINGS), draw(LINKS), draw(POSSESSIONS), draw(ENDINGS[symbol]))


def draw_wrong_number(rng: random.Random, right: int) -> int:
    """Draw a wrong number: half of them are off by one, three in ten off by ten, and the rest are any number."""
    while True:
        kind = rng.random()
        distance = 1 if kind < 0.5 else 10
        wrong = right + rng.choice((-distance, distance)) if kind < 0.8 else rng.randint(MIN_VALUE, MAX_VALUE)
        if is_possible(wrong) and wrong != right:
            return wrong


def draw_wrong_numbers(rng: random.Random, event: Event, value: int) -> Numbers:
    """Draw a wrong result; half of the steps with groups have a wrong product instead, and go on from it."""
    right = right_numbers(event, value)
    if event.groups and rng.random() < 0.5:
        operand = draw_wrong_number(rng, right.operand)
        result = calculate(value, event.verb.symbol, operand)
        if is_possible(result):
            return Numbers(value, operand, result)
    return replace(right, result=draw_wrong_number(rng, right.result))


def solve(problem: Problem, rng: random.Random, style: Style, noise: float) -> Iterator[str]:
    """Yield each step without its delimiter. A step has a wrong number with probability `noise`.

    The step after a mistake starts from the wrong value, so a mistake must leave the rest of the problem possible.
    """
    value = problem.start
    for index, event in enumerate(problem.events, start=1):
        numbers = right_numbers(event, value)
        if rng.random() < noise:
            wrong = draw_wrong_numbers(rng, event, value)
            numbers = wrong if _can_go_on(problem, index, wrong.result) else numbers
        yield write_step(problem, index, event, numbers, draw_wording(rng, style, event.verb.symbol))
        value = numbers.result
    yield write_answer(value)


def _can_go_on(problem: Problem, index: int, value: int) -> bool:
    """Tell whether the events after event `index` are possible from `value`."""
    return all(is_possible(later) for later in replace(problem, start=value, events=problem.events[index:]).values)


def grade_step(problem: Problem, index: int, value: int, text: str) -> bool:
    """Tell whether `text` is the right step `index` (from 1) if the previous step wrote `value`.

    Only the wording is free. Any other number, word or place is wrong.
    """
    return text in list_right_steps(problem, index, value)


def list_right_steps(problem: Problem, index: int, value: int) -> list[str]:
    """Return the right step `index` (from 1) in every wording, if the previous step wrote `value`."""
    if index > len(problem.events):
        return [write_answer(value)]
    event = problem.events[index - 1]
    numbers = right_numbers(event, value)
    return [write_step(problem, index, event, numbers, wording) for wording in all_wordings(event.verb.symbol)]


def read_result(text: str) -> int | None:
    """Return the result in a step's text, or None if there is no valid result."""
    match = _RESULT_PATTERN.search(text)
    return int(match[1]) if match and is_possible(int(match[1])) else None
