"""What a step of each method does, how long it takes, and from which acceptance rate on speculation pays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gsi.planning.lengths import expected_length, expected_longest
from gsi.planning.phases import Model, Phase, Role, read, write
from gsi.planning.systems import System

SBON_DRAFT, SBON_TARGET = "soft-best-of-n:draft", "soft-best-of-n:target"


@dataclass(frozen=True, slots=True)
class Workload:
    """What jobs are like. ``step_tokens`` is the mean length of a step, ``acceptance`` that of each method."""

    n: int
    prompt_tokens: float
    step_tokens: float
    num_steps: float
    max_step_tokens: int
    acceptance: Mapping[str, float]

    @property
    def context(self) -> float:
        """Return the tokens before a step, averaged over the steps of an answer."""
        return self.prompt_tokens + self.step_tokens * max(0.0, self.num_steps - 1) / 2


@dataclass(frozen=True, slots=True)
class Setup:
    """Models in their roles, the system that runs them, and their jobs. ``is_shared``: one GPU holds all models."""

    models: Mapping[Role, Model]
    system: System
    workload: Workload
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidates of one writer, written and scored. ``seconds`` is from the first token to the last score."""

    phases: tuple[Phase, ...]
    seconds: float
    floor_seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a method: a first proposal, and for the rejected share of the steps one by the target."""

    method: str
    first: Proposal
    resampled: Proposal | None = None
    acceptance: float = 1.0

    @property
    def phases(self) -> tuple[Phase, ...]:
        again = self.resampled.phases if self.resampled else ()
        return (*self.first.phases, *(phase.at(1 - self.acceptance) for phase in again))

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(dict.fromkeys(phase.role for phase in self.phases))

    @property
    def seconds(self) -> float:
        """Return the expected seconds of a step of one job, with nothing else on the machine."""
        return self.first.seconds + (1 - self.acceptance) * (self.resampled.seconds if self.resampled else 0.0)

    @property
    def floor_seconds(self) -> float:
        """Return the same without any overhead of a pass: what memory and arithmetic alone would take."""
        again = self.resampled.floor_seconds if self.resampled else 0.0
        return self.first.floor_seconds + (1 - self.acceptance) * again

    def break_even(self, other_seconds: float) -> float | None:
        """Return the acceptance rate at which a step takes ``other_seconds``; None if even 1 is not enough.

        0 means that the step is faster at any rate.
        """
        if self.resampled is None or self.first.seconds > other_seconds:
            return None
        return max(0.0, 1 - (other_seconds - self.first.seconds) / self.resampled.seconds)


def plan_steps(setup: Setup) -> dict[str, Step]:
    """Return a step of every method, by its name."""
    return {name: make(name, setup) for name, make in _METHODS.items()}


def _plan_gsi(name: str, setup: Setup) -> Step:
    first = _propose(setup, "draft", ("target", "prm"))
    return Step(name, first, _propose(setup, "target", ("prm",), "resamples"), setup.workload.acceptance[name])


def _plan_rsd(name: str, setup: Setup) -> Step:
    first = _propose(setup, "draft", ("prm",))
    return Step(name, first, _propose(setup, "target", ("prm",), "resamples"), setup.workload.acceptance[name])


def _plan_sbon_draft(name: str, setup: Setup) -> Step:
    return Step(name, _propose(setup, "draft", ("prm",)))


def _plan_sbon_target(name: str, setup: Setup) -> Step:
    return Step(name, _propose(setup, "target", ("prm",)))


def _plan_target(name: str, setup: Setup) -> Step:
    return Step(name, _propose(replace(setup, workload=replace(setup.workload, n=1)), "target", ()))


_METHODS: Mapping[str, Callable[[str, Setup], Step]] = {
    "gsi": _plan_gsi,
    "rsd": _plan_rsd,
    SBON_DRAFT: _plan_sbon_draft,
    SBON_TARGET: _plan_sbon_target,
    "target": _plan_target,
}


def _propose(setup: Setup, writer: Role, scorers: tuple[Role, ...], verb: str = "writes") -> Proposal:
    """Return a proposal of n candidates by ``writer``, which ``scorers`` score."""
    work = setup.workload
    mean = expected_length(work.step_tokens, work.max_step_tokens)
    longest = expected_longest(work.step_tokens, work.max_step_tokens, work.n)
    writing = write(
        f"{writer} {verb}", setup.models[writer], rows=work.n, mean=mean, longest=longest, context=work.context
    )
    scoring = tuple(_score(setup, role, work.n, longest if setup.system.is_padded else mean) for role in scorers)
    last = tuple(_score(setup, role, 1, longest) for role in scorers)
    return Proposal(
        phases=(writing, *scoring),
        seconds=_combine(setup, writing.seconds, [one.seconds for one in scoring], [one.seconds for one in last]),
        floor_seconds=_combine(
            setup, writing.floor_seconds, [one.floor_seconds for one in scoring], [one.floor_seconds for one in last]
        ),
    )


def _score(setup: Setup, role: Role, rows: int, length: float) -> Phase:
    """Return the reading of candidates: their own tokens, or, without a cache, each with its whole context."""
    name = "PRM reads" if role == "prm" else f"{role} scores"
    if role != "prm":  # padding is the PRM's alone
        length = min(length, expected_length(setup.workload.step_tokens, setup.workload.max_step_tokens))
    cached = setup.workload.context if setup.system.has_prefix_cache else 0.0
    return read(name, setup.models[role], rows=rows, length=length + setup.workload.context - cached, cached=cached)


def _combine(setup: Setup, writing: float, scoring: list[float], last: list[float]) -> float:
    """Return the seconds of a proposal.

    One after the other, everything adds up; so it does on a GPU that all models share. With overlap and a GPU each,
    only the scoring of the last candidate follows the writing, unless a scorer takes longer than the writer.
    """
    if setup.is_shared or not setup.system.has_overlap:
        return writing + sum(scoring)
    return max([writing + max(last, default=0.0), *scoring])
