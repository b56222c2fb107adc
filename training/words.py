"""The words of the task: people, things, verbs, and the several ways in which a step may say the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

STEP_DELIMITER = "\n\n"
MAX_NUMBER = 99  # each number from 0 is one token

DAYS = (" Monday", " Tuesday", " Wednesday", " Thursday", " Friday", " Saturday", " Sunday")
PEOPLE = (" Mia", " Ada", " Eva", " Lea", " Zoe", " Tom", " Ben", " Max", " Sam", " Leo")
THINGS = (" shells", " coins", " apples", " books", " stamps", " cards", " pens", " beads", " nuts", " eggs")
CONTAINERS = (" bags", " boxes", " jars", " packs")

Symbol = Literal["+", "-", "*"]


@dataclass(frozen=True, slots=True)
class Verb:
    """What a verb does to the number of things, and who else takes part."""

    word: str
    symbol: Symbol
    friend: Literal["", "subject", "object"] = ""  # the friend's place beside the hero
    counts_groups: bool = False  # whether `3 bags of 4 shells` may follow
    factor: int = 0  # of `doubles` and `triples`, which name no number


VERBS = (
    Verb(" gives", "+", friend="subject", counts_groups=True),
    Verb(" brings", "+", friend="subject", counts_groups=True),
    Verb(" finds", "+"),
    Verb(" buys", "+", counts_groups=True),
    Verb(" wins", "+"),
    Verb(" loses", "-"),
    Verb(" sells", "-", counts_groups=True),
    Verb(" uses", "-", counts_groups=True),
    Verb(" lends", "-", friend="object"),
    Verb(" doubles", "*", factor=2),
    Verb(" triples", "*", factor=3),
)


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to word a step. It has no meaning."""

    opening: str
    link: str
    possession: str
    ending: str


OPENINGS = ("On", "Then on", "Next, on")
LINKS = (", so", ", and then", ", which means that")
POSSESSIONS = (" now has", " has")
ENDINGS = {"+": (".", " in all."), "-": (".", " left."), "*": (".", " in all.")}


def all_wordings(symbol: Symbol) -> list[Wording]:
    """Return every wording of a step with `symbol`."""
    return [Wording(*choice) for choice in product(OPENINGS, LINKS, POSSESSIONS, ENDINGS[symbol])]


WORDS = (
    STEP_DELIMITER,
    *("system", "user", "assistant"),
    *DAYS,
    *PEOPLE,
    *THINGS,
    *CONTAINERS,
    *(verb.word for verb in VERBS),
    *("On", " On", "Then", "Next", " on", " has", " have", " now", " of", " the", " that", " is", " means"),
    *(" so", " and", " then", " which", " in", " all", " left"),
    *(" How", " many", " does", " at", " end"),
    *(" +", " -", " *", " ="),
    *("The", " answer", " \\boxed{"),
    *(f" {number}" for number in range(MAX_NUMBER + 1)),
)
