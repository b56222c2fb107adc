"""What a step of each method asks of which model: the counts from which the planner makes phases.

A method that is not here is not planned: ``UNPLANNED`` or ``explain_unplanned`` says why, in place of a wrong number.
To plan a new method, add its calls here; the code of the method is in ``gsi/algorithm/methods``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import isqrt

from gsi.planning.architecture import Role


class Again(Enum):
    """When the second writer of a step writes."""

    IF_REJECTED = auto()  # behind the first, in the share of steps that are not accepted
    INSTEAD = auto()  # in place of the first, in the share of steps that are not the draft's
    ALWAYS = auto()  # behind the first, in every step


class Trajectories(Enum):
    """How many different contexts the rows of a method have, each with a KV cache of its own."""

    ONE = auto()
    ROOT_OF_N = auto()  # beam_width, unless a job names another
    ALL = auto()  # n

    def count(self, n: int) -> int:
        return {Trajectories.ONE: 1, Trajectories.ROOT_OF_N: max(1, isqrt(n)), Trajectories.ALL: n}[self]


@dataclass(frozen=True, slots=True)
class Ask:
    """Candidates of one writer, all of which the scorers read."""

    writer: Role
    scorers: tuple[Role, ...] = ()
    judge: Role | None = None  # reads the step and a question about it, and answers with a token


@dataclass(frozen=True, slots=True)
class Calls:
    """A step of a method."""

    first: Ask
    again: Ask | None = None
    when: Again = Again.IF_REJECTED
    has_one_row: bool = False  # one candidate, whatever n is
    trajectories: Trajectories = Trajectories.ONE

    @property
    def needs_share(self) -> bool:
        """Whether the costs depend on a share of steps that only a run can tell."""
        return self.again is not None and self.when is not Again.ALWAYS


_TARGET_WRITES = Ask("target", ("prm",))

# By label: a method, with the model that writes where a job chooses it.
CALLS: Mapping[str, Calls] = {
    "gsi": Calls(Ask("draft", ("target", "prm")), _TARGET_WRITES),
    "gsi-no-rejection": Calls(Ask("draft", ("target", "prm"))),
    "rsd": Calls(Ask("draft", ("prm",)), _TARGET_WRITES),
    "specs": Calls(Ask("draft", ("target", "prm")), _TARGET_WRITES, Again.INSTEAD),
    "arbitrage": Calls(Ask("draft", ("prm",)), _TARGET_WRITES),
    "arbitrage-oracle": Calls(Ask("draft", ("prm",)), _TARGET_WRITES, Again.ALWAYS),
    "soft-best-of-n:draft": Calls(Ask("draft", ("prm",))),
    "soft-best-of-n:target": Calls(_TARGET_WRITES),
    "best-of-n:draft": Calls(Ask("draft", ("prm",))),
    "best-of-n:target": Calls(_TARGET_WRITES),
    "majority-vote:draft": Calls(Ask("draft"), trajectories=Trajectories.ALL),
    "majority-vote:target": Calls(Ask("target"), trajectories=Trajectories.ALL),
    "beam-search:draft": Calls(Ask("draft", ("prm",)), trajectories=Trajectories.ROOT_OF_N),
    "beam-search:target": Calls(_TARGET_WRITES, trajectories=Trajectories.ROOT_OF_N),
    "particle-filter:draft": Calls(Ask("draft", ("prm",)), trajectories=Trajectories.ALL),
    "particle-filter:target": Calls(_TARGET_WRITES, trajectories=Trajectories.ALL),
    "dvts:draft": Calls(Ask("draft", ("prm",)), trajectories=Trajectories.ROOT_OF_N),
    "dvts:target": Calls(_TARGET_WRITES, trajectories=Trajectories.ROOT_OF_N),
    "spec-reason": Calls(Ask("draft", judge="target"), Ask("target"), has_one_row=True),
    "draft": Calls(Ask("draft"), has_one_row=True),
    "target": Calls(Ask("target"), has_one_row=True),
}
# Methods whose costs do not follow from counts of calls, each with the reason.
UNPLANNED: Mapping[str, str] = {
    "speculative-rejection": "how many responses end early is not known; best-of-n is an upper bound",
    "confidence-vote": "how many responses end early is not known; majority-vote is an upper bound",
    "conf-spec": "the share of steps of which the draft is unsure is not known",
    "speculative-decoding": "the tokens that the target's engine accepts of its own drafts are not known",
}


NAMES = tuple(dict.fromkeys(label.partition(":")[0] for label in (*CALLS, *UNPLANNED)))


def explain_unplanned(acceptance: Mapping[str, float], names: Iterable[str] = NAMES) -> Iterator[tuple[str, str]]:
    """Return each of these methods that is not planned, with the reason; ``acceptance`` has the shares that are known.

    A method of another name than those of the tables is unknown to the planner.
    """
    for name in names:
        labels = [label for label in CALLS if label.partition(":")[0] == name]
        if name in UNPLANNED:
            yield name, UNPLANNED[name]
        elif not labels:
            yield name, "the planner does not know which calls a step makes (gsi/planning/calls.py)"
        for label in labels:
            if CALLS[label].needs_share and label not in acceptance:
                whose = "written by the draft" if CALLS[label].when is Again.INSTEAD else "accepted"
                yield label, f"the share of steps that are {whose} is not known; --accept {label}=SHARE gives it"
