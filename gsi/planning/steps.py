"""What a step of each method does, how long it takes, and from which acceptance rate on speculation pays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gsi.planning.architecture import Role
from gsi.planning.calls import CALLS, Again, Ask
from gsi.planning.lengths import expected_length, expected_longest, expected_shortest
from gsi.planning.parts import Part, plan_parts
from gsi.planning.phases import Model, Phase, Speculation, read, write, write_speculatively
from gsi.planning.quantities import Given, Quantity
from gsi.planning.systems import ContextReading, System

SBON_DRAFT, SBON_TARGET = "soft-best-of-n:draft", "soft-best-of-n:target"


# Of the question about a step and the turn around it: some thirty tokens and some ten of a chat template.
QUESTION_TOKENS = 40.0

Phases = tuple[Phase, ...]
Known = Mapping[Quantity, float]  # of one method


@dataclass(frozen=True, slots=True)
class Workload:
    """What jobs are like. ``step_tokens`` is the mean length of a step, ``acceptance`` that of each method.

    ``quantities`` are what some methods need besides. The rest is known where steps were recorded: tokens of the
    shortest and the longest of the n candidates (None: by ``lengths.py``), how many of them end with the longest, and
    at how many times candidates end.
    """

    n: int
    prompt_tokens: float
    step_tokens: float
    num_steps: float
    max_step_tokens: int
    acceptance: Mapping[str, float]
    shortest_tokens: float | None = None
    longest_tokens: float | None = None
    num_last: float = 1.0
    num_ends: float = 1.0
    quantities: Given = field(default_factory=dict)

    @property
    def given(self) -> Given:
        """Return all quantities of methods that are known."""
        return {**self.quantities, Quantity.ACCEPTANCE: self.acceptance}

    @property
    def mean(self) -> float:
        """Return the mean tokens of a candidate."""
        return expected_length(self.step_tokens, self.max_step_tokens)

    @property
    def shortest(self) -> float:
        """Return the tokens of the shortest candidate: scoring begins when it is written."""
        return self.shortest_tokens or expected_shortest(self.step_tokens, self.max_step_tokens, self.n)

    @property
    def longest(self) -> float:
        """Return the tokens of the longest candidate."""
        return self.longest_tokens or expected_longest(self.step_tokens, self.max_step_tokens, self.n)

    @property
    def share_behind_shortest(self) -> float:
        """Return the share of the writing that is left when the shortest candidate is written."""
        return 1 - self.shortest / self.longest

    @property
    def context(self) -> float:
        """Return the tokens before a step, averaged over the steps of an answer."""
        return self.prompt_tokens + self.step_tokens * max(0.0, self.num_steps - 1) / 2


@dataclass(frozen=True, slots=True)
class Setup:
    """Models in their roles, the system that runs them, and their jobs.

    ``num_devices`` is how many GPUs or cores the three models share: 3 is one each, 1 is one for all.
    """

    models: Mapping[Role, Model]
    system: System
    workload: Workload
    num_devices: int = 3

    @property
    def is_shared(self) -> bool:
        return self.num_devices == 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidates of one writer, written and scored. ``seconds`` is from the first token to the last score."""

    phases: tuple[Phase, ...]
    seconds: float
    floor_seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a method: a first proposal, and for the rejected share of the steps one by the target.

    ``num_rows`` candidates are written at a time, over so many different contexts (``num_trajectories``).
    """

    method: str
    first: Proposal
    resampled: Proposal | None = None
    acceptance: float = 1.0
    when: Again = Again.IF_REJECTED
    num_rows: int = 1
    num_trajectories: int = 1

    @property
    def first_share(self) -> float:
        """Return the share of steps that have the first proposal."""
        return self.acceptance if self.when is Again.INSTEAD else 1.0

    @property
    def again_share(self) -> float:
        """Return the share of steps that have the second one."""
        if self.resampled is None:
            return 0.0
        return 1.0 if self.when is Again.ALWAYS else 1 - self.acceptance

    @property
    def phases(self) -> tuple[Phase, ...]:
        again = self.resampled.phases if self.resampled else ()
        first = (phase.times(self.first_share) for phase in self.first.phases)
        return (*first, *(phase.times(self.again_share) for phase in again))

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(dict.fromkeys(phase.role for phase in self.phases))

    @property
    def models(self) -> tuple[Model, ...]:
        """Return the models that work, and run on the GPUs of their roles; a role may have two."""
        return tuple(dict.fromkeys(phase.model for phase in self.phases))

    @property
    def seconds(self) -> float:
        """Return the expected seconds of a step of one job, with nothing else on the machine."""
        again = self.resampled.seconds if self.resampled else 0.0
        return self.first_share * self.first.seconds + self.again_share * again

    @property
    def floor_seconds(self) -> float:
        """Return the same without any overhead of a pass: what memory and arithmetic alone would take."""
        again = self.resampled.floor_seconds if self.resampled else 0.0
        return self.first_share * self.first.floor_seconds + self.again_share * again

    def break_even(self, other_seconds: float) -> float | None:
        """Return the acceptance rate at which a step takes ``other_seconds``; None if even 1 is not enough.

        0 means that the step is faster at any rate.
        """
        if self.resampled is None or self.first.seconds > other_seconds:
            return None
        return max(0.0, 1 - (other_seconds - self.first.seconds) / self.resampled.seconds)


def plan_steps(setup: Setup) -> dict[str, Step]:
    """Return a step of every method whose calls and quantities are known, by its label (``calls.py``).

    Raises InvalidRequestError for a quantity that a method cannot have.
    """
    given = setup.workload.given
    return {
        label: plan_step(setup, label)
        for label, calls in CALLS.items()
        if all(label in given.get(needed.quantity, {}) for needed in calls.needs)
    }


def plan_step(setup: Setup, label: str) -> Step:
    """Return a step of one method, of which all that its calls need is known."""
    calls = CALLS[label]
    n = 1 if calls.has_one_row else setup.workload.n
    known = {quantity: of_labels[label] for quantity, of_labels in setup.workload.given.items() if label in of_labels}
    parts = plan_parts(label, calls, n, setup.workload.num_steps, known)
    verb = "writes" if calls.when is Again.INSTEAD else "resamples"
    return Step(
        method=label,
        first=_propose(setup, calls.first, parts, known),
        resampled=None if calls.again is None else _propose(setup, calls.again, parts, known, verb),
        acceptance=known[Quantity.ACCEPTANCE] if calls.needs_share else 1.0,
        when=calls.when,
        num_rows=n,
        num_trajectories=calls.trajectories.count(n),
    )


def _propose(setup: Setup, ask: Ask, parts: tuple[Part, ...], known: Known, verb: str = "writes") -> Proposal:
    """Return a proposal that is made in parts, one after the other."""
    made = [
        (part.share, _propose_part(replace(setup, workload=replace(setup.workload, n=part.num_rows)), ask, known, verb))
        for part in parts
    ]
    return Proposal(
        phases=tuple(phase.times(share) for share, one in made for phase in one.phases),
        seconds=sum(share * one.seconds for share, one in made),
        floor_seconds=sum(share * one.floor_seconds for share, one in made),
    )


def _propose_part(setup: Setup, ask: Ask, known: Known, verb: str) -> Proposal:
    """Return a proposal of n candidates by a writer, which the scorers score and the judges judge."""
    scorers = ask.scorers
    writing = _write(setup, ask, known, verb)
    decoding = sum(phase.seconds for phase in writing if phase.is_writing)
    ends_after = decoding * setup.workload.share_behind_shortest
    scoring = tuple(_score_all(setup, role, ends_after) for role in scorers)
    is_read_once = setup.system.context_reading is ContextReading.LAST_STEP
    reading = tuple(_read_context(setup, role) for role in scorers if is_read_once)
    judging = _judge_in_turns(setup, ask, known)
    num_scorings = bool(scorers) + sum(phase.share for phase in judging)
    phases = (*writing, *reading, *scoring, *judging)

    def combine(seconds: Callable[[Phase], float]) -> float:
        judged = sum(phase.share * seconds(phase) for phase in judging)  # of a whole step
        if not setup.system.has_overlap:
            return sum(map(seconds, (*writing, *reading, *scoring))) + judged
        return _overlap(setup, writing, reading, scoring, seconds) + judged

    return Proposal(
        phases=phases,
        seconds=setup.system.seconds_per_call
        + num_scorings * setup.system.seconds_per_scoring
        + combine(lambda phase: phase.seconds),
        floor_seconds=combine(lambda phase: phase.floor_seconds),
    )


def _overlap(
    setup: Setup, writing: Phases, reading: Phases, scoring: Phases, seconds: Callable[[Phase], float]
) -> float:
    """Return the seconds of a proposal that is scored while it is written: those of its longest chain.

    The chains are: the writing and the last candidate's scores; each device's share of all work, and of what is left
    when the shortest candidate is written; and each scorer's work, which cannot begin before that.
    """
    work = setup.workload
    last = (_score(setup, phase.role, min(work.num_last, work.n)) for phase in scoring)
    written, scored = sum(map(seconds, writing)), list(map(seconds, scoring))
    rest = sum(seconds(phase) for phase in writing if phase.is_writing) * work.share_behind_shortest
    first = written - rest
    ready = [max(first, seconds(phase)) for phase in reading] or [first] * len(scored)
    return max(
        written + max(map(seconds, last), default=0.0),
        sum(map(seconds, (*writing, *reading, *scoring))) / setup.num_devices,
        first + (rest + sum(scored)) / setup.num_devices,
        *(begin + taken for begin, taken in zip(ready, scored, strict=True)),
    )


def _write(setup: Setup, ask: Ask, known: Known, verb: str) -> tuple[Phase, ...]:
    """Return the writing of n candidates. The pass that reads the context also gives each candidate's first token."""
    work, role, name = setup.workload, ask.writer, f"{ask.writer} {verb}"
    model, drafter = setup.models[role], setup.models["draft"]
    rows, passes = float(work.n), work.longest - setup.system.reads_before_writing
    sizes = {"rows": rows, "mean": work.mean, "longest": passes, "context": work.context}
    reading = (_read_context(setup, role),) if setup.system.reads_before_writing else ()
    if not ask.is_speculative:
        return (*reading, write(name, model, **sizes))
    speculation = Speculation(round(known[Quantity.SPECULATIVE_TOKENS]), known[Quantity.TOKEN_ACCEPTANCE])
    return (*reading, *write_speculatively(name, model, drafter, speculation, **sizes))


def _read_context(setup: Setup, role: Role) -> Phase:
    name = "PRM reads context" if role == "prm" else f"{role} reads context"
    work = setup.workload
    length = work.step_tokens if setup.system.context_reading is ContextReading.LAST_STEP else work.context
    return read(name, setup.models[role], rows=1, length=length, cached=max(0.0, work.context - length))


def _judge_in_turns(setup: Setup, ask: Ask, known: Known) -> tuple[Phase, ...]:
    """Return what each judge reads; the second one reads only the steps of which the first is unsure."""
    shares = (1.0, 1 - known.get(Quantity.SURE, 0.0))
    return tuple(_judge(setup, role).times(share) for role, share in zip(ask.judges, shares, strict=False))


def _judge(setup: Setup, role: Role) -> Phase:
    """Return the reading of a step and the question about it; one token's output is the answer."""
    work = setup.workload
    context = 0.0 if setup.system.context_reading is ContextReading.NEVER else work.context
    length = work.mean + QUESTION_TOKENS + context
    return read(f"{role} judges", setup.models[role], rows=1, length=length, cached=work.context - context, outputs=1.0)


def _score_all(setup: Setup, role: Role, ends_after: float) -> Phase:
    """Return the reading of all candidates, the last of which ends ``ends_after`` seconds behind the first.

    A candidate that ends at a time of its own takes a pass. Candidates that end while a pass runs share the next pass.
    """
    work = setup.workload
    most = min(work.num_ends, work.n) if setup.system.has_overlap else 1.0
    of_a_pass = _score(setup, role, work.n, most).seconds / most
    return _score(setup, role, work.n, min(most, 1 + max(1.0, ends_after / of_a_pass)))


def _score(setup: Setup, role: Role, rows: float, least_passes: float = 1.0) -> Phase:
    """Return the reading of candidates: their own tokens, or each with its whole context."""
    work = setup.workload
    own = work.longest if setup.system.is_padded and role == "prm" else work.mean
    context = work.context if setup.system.context_reading is ContextReading.PER_CANDIDATE else 0.0
    return read(
        "PRM reads" if role == "prm" else f"{role} scores",
        setup.models[role],
        rows=rows,
        length=own + context,
        cached=work.context - context,
        least_passes=least_passes,
    )
