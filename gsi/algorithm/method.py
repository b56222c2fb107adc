"""What a method is: one object with everything that the rest of the system asks of it.

A method writes an answer in rounds. It starts with a population of trajectories (most methods: one, the prompt). In
each round every unfinished trajectory may grow by a step. At the end one trajectory is the answer. Payload checks, JSON
Schema, the table of ``docs/methods.md``, evaluation, metrics and the web page read these fields. So a new method is one
module in ``methods/`` and one line in ``methods/__init__.py``.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Branch, Population, Source, Trajectory
from gsi.algorithm.params import Params, Resample
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import NewStep, Round

# A job may set these for every method, so that one set of parameters serves a comparison of several.
COMMON_PARAMETERS = frozenset({"n", "n_target", "beta"})


IsEnd = Callable[[Trajectory], bool]  # called in threads


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A trajectory that is to grow: its place in the population, and the parameters within its own token limit.

    ``is_end`` says whether a trajectory that continues it is finished. None: nobody knows before its rewards are there.
    """

    place: int
    trajectory: Trajectory
    params: Params
    is_end: IsEnd | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """How a text is read: the answer in it, None if it has none; and whether two answers say the same.

    ``find`` and ``is_in`` are called in threads. ``is_in`` says whether there is an answer, where that is quicker.
    """

    find: Callable[[str], str | None]
    are_equal: Callable[[str, str], Awaitable[bool]]
    is_in: Callable[[str], bool] | None = None

    def has_answer(self, text: str) -> bool:
        return self.find(text) is not None if self.is_in is None else self.is_in(text)


MakeStep = Callable[[Trajectory, Params, Ports, int], Awaitable[NewStep]]
MakeRound = Callable[[Population, Sequence[Unfinished], Ports, int], Awaitable[Round]]
Start = Callable[[Trajectory, Params], Population]
Choose = Callable[[Population, Params, Answers, int], Awaitable[int]]
Pick = Callable[[Population, Sequence[Unfinished], int], Sequence[Unfinished]]
IsDecided = Callable[[Population, Sequence[Unfinished], Answers], Awaitable[bool]]
# The place of the candidate that is kept if those that cannot be drawn yet (reward NaN) stay so; None: none of them is.
FindLeader = Callable[[Proposal, Trajectory, Params, int], int | None]
Test = Callable[[Params], bool]


def start_with_prompt(prompt: Trajectory, _params: Params) -> Population:
    """Return a population of one."""
    return (prompt,)


async def choose_first(_population: Population, _params: Params, _answers: Answers, _seed: int) -> int:
    """Return place 0, the only place in a population of one."""
    return 0


def pick_all(_population: Population, unfinished: Sequence[Unfinished], _seed: int) -> Sequence[Unfinished]:
    """Return every trajectory that is not finished."""
    return unfinished


async def decided_never(_population: Population, _growing: Sequence[Unfinished], _answers: Answers) -> bool:
    """Return False: every trajectory is written to its end."""
    return False


def in_every_job(_params: Params) -> bool:
    return True


def in_no_job(_params: Params) -> bool:
    return False


def by_nobody(_params: Params) -> frozenset[Source]:
    return frozenset()


def written_by_role(params: Params) -> frozenset[Source]:
    """Return the one model that the job's ``role`` names."""
    return frozenset({params.role})


def written_by(*sources: Source) -> Callable[[Params], frozenset[Source]]:
    """Return a function that names these models, whatever the parameters."""
    return lambda _: frozenset(sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How an answer is written, and what may be asked of it before a job runs.

    ``make_round`` gets the population, the trajectories that are to grow, the ports and the job's seed. ``start``
    returns the population before the first round. ``pick`` returns those of the unfinished trajectories that grow in
    the next round; the answer is complete when there are none. It gets the population, all that are unfinished, and the
    seed. ``is_decided`` says before a round whether the answer is known without it. ``choose`` returns the answer's
    place in the last population.
    ``writers`` are the models that may write a step. ``parameters`` are the job's parameters that the method reads,
    without those that belong to every answer (temperature, limits, …).
    """

    name: str
    summary: str  # for docs/methods.md, as the next one
    source: str  # paper and section
    make_round: MakeRound
    start: Start = start_with_prompt
    pick: Pick = pick_all
    is_decided: IsDecided = decided_never
    choose: Choose = choose_first
    writers: Callable[[Params], frozenset[Source]] = written_by_role
    asks_rewards: Test = in_every_job
    asks_likelihoods: Test = in_no_job  # of the target, for the draft's candidates
    judges: Callable[[Params], frozenset[Source]] = by_nobody  # the models that judge candidates of the draft
    can_reject: bool = False  # whether the target may replace a step of the draft
    draws_tilted: bool = False  # whether a candidate of the draft is drawn by its tilted reward
    is_search: Test = in_no_job  # whether several trajectories are kept, and one is chosen at the end
    is_speculative: bool = False  # whether the target's engine must decode speculatively
    parameters: tuple[str, ...] = ()
    find_leader: FindLeader | None = None  # of the draft's candidates; None: the draft writes nothing ahead
    asks_router: bool = False  # whether the coordinator must have a router of these models

    def models(self, params: Params) -> frozenset[str]:
        """Return the models that a job with these parameters asks: "draft", "target", "prm"."""
        scorers = {"prm"} if self.asks_rewards(params) else set()
        if self.asks_likelihoods(params):
            scorers.add(Source.TARGET)
        return self.writers(params) | self.judges(params) | scorers

    def needs_speculation(self, params: Params) -> bool:
        """Return whether the target's engine must decode speculatively for these parameters."""
        return self.is_speculative or ("resample" in self.parameters and params.resample is Resample.SPECULATIVE)


def lift(make_step: MakeStep) -> MakeRound:
    """Return a rule for one step as a rule for a population of one trajectory."""

    async def make_round(_population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
        (only,) = growing
        new = await make_step(only.trajectory, only.params, ports, seed)
        return Round((Branch(only.place, new.step),), new.proposals, new.tilted_rewards)

    return make_round
