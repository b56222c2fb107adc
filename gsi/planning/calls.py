"""What a step of each method asks of which model: the counts from which the planner makes phases.

A method that is not here is not planned, nor is one of which a quantity is not known: ``find_unplanned`` says why, in
place of a wrong number. To plan a new method, add its calls here; its code is in ``gsi/algorithm/methods``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from math import isqrt
from typing import Any

from gsi.planning.architecture import Role
from gsi.planning.quantities import Given, Missing, Quantity


class Again(Enum):
    """When the second writer of a step writes."""

    IF_REJECTED = auto()  # behind the first, in the share of steps that are not accepted
    INSTEAD = auto()  # in place of the first, in the share of steps that are not the draft's
    ALWAYS = auto()  # behind the first, in every step


class EarlyEnds(Enum):
    """Why some of n whole responses end before the others."""

    BY_REJECTION = auto()  # speculative rejection: its rule counts steps, so the planner can follow it
    BY_CONFIDENCE = auto()  # confidence vote: only a run tells


class Trajectories(Enum):
    """How many different contexts the rows of a method have, each with a KV cache of its own."""

    ONE = auto()
    ROOT_OF_N = auto()  # beam_width, unless a job names another
    ALL = auto()  # n

    def count(self, n: int) -> int:
        return {Trajectories.ONE: 1, Trajectories.ROOT_OF_N: max(1, isqrt(n)), Trajectories.ALL: n}[self]


@dataclass(frozen=True, slots=True)
class Ask:
    """Candidates of one writer, all of which the scorers read.

    A judge reads the step and a question about it, and answers with a token; the second judge is asked where the first
    is unsure. ``is_speculative``: the writer's engine lets the draft write tokens ahead, and verifies them.
    """

    writer: Role
    scorers: tuple[Role, ...] = ()
    judges: tuple[Role, ...] = ()
    is_speculative: bool = False


@dataclass(frozen=True, slots=True)
class Calls:
    """A step of a method, or of all of its responses in a round."""

    first: Ask
    again: Ask | None = None
    when: Again = Again.IF_REJECTED
    has_one_row: bool = False  # one candidate, whatever n is
    trajectories: Trajectories = Trajectories.ONE
    is_of_responses: bool = False  # what is accepted is the whole response
    early_ends: EarlyEnds | None = None
    has_n_rule: bool = False

    @property
    def needs_share(self) -> bool:
        """Whether the costs depend on a share of steps that only a run can tell."""
        return self.again is not None and self.when is not Again.ALWAYS

    @property
    def is_speculative(self) -> bool:
        """Whether the target's engine must decode speculatively."""
        return self.first.is_speculative or (self.again is not None and self.again.is_speculative)

    @property
    def needs(self) -> Iterator[Missing]:
        """Return what must be known, in words."""
        if self.needs_share:
            unit = "responses" if self.is_of_responses else "steps"
            whose = "written by the draft" if self.when is Again.INSTEAD else "accepted"
            yield Missing(Quantity.ACCEPTANCE, f"the share of {unit} that are {whose}")
        if self.is_speculative:
            yield Missing(Quantity.TOKEN_ACCEPTANCE, "the probability that a drafted token is accepted")
            yield Missing(Quantity.SPECULATIVE_TOKENS, "the number of tokens that the engine drafts at a time")
        if len(self.first.judges) > 1:
            yield Missing(Quantity.SURE, "the share of steps of which the draft is sure")
        if self.early_ends is EarlyEnds.BY_CONFIDENCE:
            yield Missing(Quantity.WRITTEN, "the share of the tokens of n responses that are written")
        if self.has_n_rule:
            yield Missing(Quantity.MEAN_N, "the mean number of candidates")

    @property
    def reads(self) -> frozenset[Quantity]:
        """Return the quantities that change the costs, among them those that need not be known."""
        needed = frozenset(each.quantity for each in self.needs)
        return needed | {Quantity.WRITTEN} if self.early_ends else needed


_TARGET_WRITES = Ask("target", ("prm",))
_DRAFT_WRITES = Ask("draft", ("prm",))
_BOTH_SCORE = Ask("draft", ("target", "prm"))
_ALL = Trajectories.ALL


def _by_role(name: str, calls: Calls, *options: str) -> dict[str, Calls]:
    """Return a method of one writer with each model: as it stands here the draft writes."""
    target = replace(calls, first=replace(calls.first, writer="target"))
    return {":".join((name, role, *options)): own for role, own in (("draft", calls), ("target", target))}


# By label: a method, with the options that change its calls, in the order of ``name_calls``.
_CALLS_AT_ONCE: Mapping[str, Calls] = {
    "gsi": Calls(_BOTH_SCORE, _TARGET_WRITES),
    "gsi:responses": Calls(_BOTH_SCORE, _TARGET_WRITES, trajectories=_ALL, is_of_responses=True),
    "gsi-no-rejection": Calls(_BOTH_SCORE),
    "gsi-no-rejection:responses": Calls(_BOTH_SCORE, trajectories=_ALL, is_of_responses=True),
    "rsd": Calls(_DRAFT_WRITES, _TARGET_WRITES),
    **dict.fromkeys(
        ("rsd:likelihood-ratio", "rsd:hybrid", "rsd:normalised-hybrid"), Calls(_BOTH_SCORE, _TARGET_WRITES)
    ),
    "specs": Calls(_BOTH_SCORE, _TARGET_WRITES, Again.INSTEAD),
    "arbitrage": Calls(_DRAFT_WRITES, _TARGET_WRITES),
    "arbitrage-oracle": Calls(_DRAFT_WRITES, _TARGET_WRITES, Again.ALWAYS),
    **_by_role("soft-best-of-n", Calls(_DRAFT_WRITES)),
    **_by_role("soft-best-of-n", Calls(_DRAFT_WRITES, trajectories=_ALL, is_of_responses=True), "responses"),
    **_by_role("best-of-n", Calls(_DRAFT_WRITES)),
    **_by_role("best-of-n", Calls(_DRAFT_WRITES, trajectories=_ALL, is_of_responses=True), "responses"),
    **_by_role("majority-vote", Calls(Ask("draft"), trajectories=_ALL)),
    **_by_role("beam-search", Calls(_DRAFT_WRITES, trajectories=Trajectories.ROOT_OF_N)),
    **_by_role("particle-filter", Calls(_DRAFT_WRITES, trajectories=_ALL)),
    "particle-filter:tilted": Calls(_BOTH_SCORE, trajectories=_ALL),
    **_by_role("dvts", Calls(_DRAFT_WRITES, trajectories=Trajectories.ROOT_OF_N)),
    **_by_role("speculative-rejection", Calls(_DRAFT_WRITES, trajectories=_ALL, early_ends=EarlyEnds.BY_REJECTION)),
    **_by_role("confidence-vote", Calls(Ask("draft"), trajectories=_ALL, early_ends=EarlyEnds.BY_CONFIDENCE)),
    "spec-reason": Calls(Ask("draft", judges=("target",)), Ask("target"), has_one_row=True),
    "conf-spec": Calls(Ask("draft", judges=("draft", "target")), Ask("target"), has_one_row=True),
    "draft": Calls(Ask("draft"), has_one_row=True),
    "target": Calls(Ask("target"), has_one_row=True),
    "speculative-decoding": Calls(Ask("target", is_speculative=True), has_one_row=True),
}
# Methods whose target may have to resample speculatively. Its law stays the same, and so does the acceptance.
_READS_RESAMPLE = ("gsi", "rsd", "arbitrage", "arbitrage-oracle", "spec-reason", "conf-spec")
SPECULATIVE = "speculative"
# Methods with adaptive n, which read ``n_rule``.
_READS_N_RULE = frozenset(
    {"gsi", "gsi-no-rejection", "rsd", "specs", "arbitrage", "arbitrage-oracle", "soft-best-of-n", "best-of-n"}
)


def _add_n_rule(calls: Mapping[str, Calls]) -> Iterator[tuple[str, Calls]]:
    for label, each in calls.items():
        yield label, each
        if label.partition(":")[0] in _READS_N_RULE:
            yield f"{label}:n_rule", replace(each, has_n_rule=True)


def _add_speculation(calls: Mapping[str, Calls]) -> Iterator[tuple[str, Calls]]:
    for label, each in calls.items():
        yield label, each
        if label in _READS_RESAMPLE and each.again is not None:
            yield f"{label}:{SPECULATIVE}", replace(each, again=replace(each.again, is_speculative=True))


CALLS: Mapping[str, Calls] = dict(_add_speculation(dict(_add_n_rule(_CALLS_AT_ONCE))))
NAMES = tuple(dict.fromkeys(label.partition(":")[0] for label in CALLS))


def name_calls(params: Mapping[str, Any]) -> str | None:
    """Return the label of the calls that a job with these parameters makes; None if the table does not have them.

    ``params`` are those of a result: every parameter that the method reads, by its name in a payload.
    """
    options = [
        "tilted" if params.get("particle_weights") == "tilted" else None,
        params.get("role", "draft"),
        (params.get("weighting") or {}).get("name"),
        "responses" if params.get("scope") == "responses" else None,
        "n_rule" if params.get("n_rule") else None,
        SPECULATIVE if params.get("resample") == SPECULATIVE else None,
    ]
    label = str(params.get("method"))
    for option in filter(None, options):
        if f"{label}:{option}" in CALLS:
            label = f"{label}:{option}"
    return label if label in CALLS else None


def find_unplanned(given: Given, names: Iterable[str] = NAMES) -> Iterator[tuple[str, tuple[Missing, ...]]]:
    """Return each of these methods that is not planned, with what is missing of what is ``given``.

    Of a method of another name than those of the table the calls are missing: the tuple is empty.
    """
    for name in names:
        labels = [label for label in CALLS if label.partition(":")[0] == name]
        if not labels:
            yield name, ()
        for label in labels:
            missing = tuple(each for each in CALLS[label].needs if label not in given.get(each.quantity, {}))
            if missing:
                yield label, missing
