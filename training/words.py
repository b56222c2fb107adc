"""The words of the task: people, things, verbs, and the several ways in which a step may say the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

STEP_DELIMITER = "\n\n"
MAX_NUMBER = 99  # each number from 0 is one token

DAYS = (" Monday", " Tuesday", " Wednesday", " Thursday", " Friday", " Saturday", " Sunday")
WOMEN = (" Mia", " Ada", " Eva", " Lea", " Zoe")
MEN = (" Tom", " Ben", " Max", " Sam", " Leo")
PEOPLE = (*WOMEN, *MEN)
THINGS = (" shells", " coins", " apples", " books", " stamps", " cards", " pens", " beads", " nuts", " eggs")

Symbol = Literal["+", "-", "*"]


@dataclass(frozen=True, slots=True)
class Verb:
    """What a verb does to the number of things, and who else takes part."""

    word: str
    symbol: Symbol
    friend: Literal["", "subject", "object"] = ""  # the friend's place beside the hero
    container: str = ""  # of `3 bags of 4 shells`, which follows each use of the verb
    factor: int = 0  # of `doubles` and `triples`, which name no number

    def join(self, hero: str) -> str:
        """Return the verb with the pronoun for `hero`: ` she loses`, or ` gives her` if a friend acts.

        It is one token. So each word of a problem follows from the word before it, since no verb and no friend occurs
        twice, and a model of two layers can look up what happens on a day.
        """
        if self.friend == "subject":
            return f"{self.word} {'her' if hero in WOMEN else 'him'}"
        return f" {'she' if hero in WOMEN else 'he'}{self.word}"


VERBS = (
    Verb(" gives", "+", friend="subject"),
    Verb(" brings", "+", friend="subject", container=" bags of"),
    Verb(" finds", "+"),
    Verb(" wins", "+"),
    Verb(" buys", "+", container=" packs of"),
    Verb(" loses", "-"),
    Verb(" uses", "-"),
    Verb(" lends", "-", friend="object"),
    Verb(" sells", "-", container=" boxes of"),
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
    *(f" {number}" for number in range(MAX_NUMBER + 1)),
    *(" +", " -", " *", " =", " has", " is"),
    *DAYS,
    *PEOPLE,
    *THINGS,
    *(verb.container for verb in VERBS if verb.container),
    *sorted({verb.join(hero) for verb in VERBS for hero in PEOPLE}),
    *("On", " On", "Then", "Next", " on", " have", " now", " the", " that", " means"),
    *(" so", " and", " then", " which", " in", " all", " left"),
    *(" How", " many", " does", " at", " end"),
    *("The", " answer", " \\boxed{"),
)
