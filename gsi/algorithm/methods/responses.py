"""Methods over n whole responses: majority vote (RSD paper, section 3, Table 2), and what others over responses need.

The responses are written step by step at the same time, so that each stops, resumes and is recorded as any answer is.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Branch, Candidate, Outcome, Population, Source, Trajectory
from gsi.algorithm.method import Answers, MakeRound, MakeStep, Method, Unfinished, in_every_job, in_no_job, lift
from gsi.algorithm.n_rule import part_ends
from gsi.algorithm.params import Aggregate, Params, Scope
from gsi.algorithm.parts import build_step, propose, run_all, score
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.rating import IsAsked
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed
from gsi.algorithm.stopping import has_ample_room


def start_with_n(prompt: Trajectory, params: Params) -> Population:
    """Return n trajectories that have only the prompt."""
    return (prompt,) * params.n


def is_over_responses(params: Params) -> bool:
    """Return whether the job chooses among whole responses."""
    return params.scope is Scope.RESPONSES


def start_by_scope(prompt: Trajectory, params: Params) -> Population:
    """Return n trajectories if the job chooses among whole responses, else one."""
    return start_with_n(prompt, params) if is_over_responses(params) else (prompt,)


def by_scope(make_step: MakeStep, make_round: MakeRound) -> MakeRound:
    """Return a rule for both scopes of a job: ``make_step`` for steps, ``make_round`` for whole responses."""
    of_steps = lift(make_step)

    async def make(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
        chosen = make_round if is_over_responses(growing[0].params) else of_steps
        return await chosen(population, growing, ports, seed)

    return make


async def write_each(
    population: Population,
    growing: Sequence[Unfinished],
    ports: Ports,
    seed: int,
    *,
    source: Source | None = None,
    outcome: Outcome = Outcome.ACCEPTED,
    rewards: bool = True,
    rates_score: bool = False,
    likelihoods: bool = False,
) -> Round:
    """Let every growing response grow by one step. Responses that are still equal are written in one proposal.

    ``source`` writes, by default the model of the job's ``role``. ``rewards`` asks the PRM to rate the steps; with
    ``rates_score`` those that the score of a finished response is made of. ``likelihoods`` asks the target.
    """
    groups: defaultdict[tuple[int, ...], list[Unfinished]] = defaultdict(list)
    for one in growing:
        groups[one.trajectory.token_ids].append(one)

    async def write(group: Sequence[Unfinished]) -> Proposal:
        first = group[0]
        own_seed = derive_seed(seed, "response", first.place)
        writer = source or first.params.role
        proposal = await propose(
            writer,
            first.trajectory,
            first.params,
            ports,
            own_seed,
            len(group),
            rewards=rewards,
            likelihoods=likelihoods,
            is_rated=_choose_rated(first, writer) if rates_score else None,
        )
        return replace(proposal, parent=first.place)

    proposals = await run_all([write(group) for group in groups.values()])
    return _grow_each(len(population), list(groups.values()), proposals, outcome)


def _grow_each(
    size: int, groups: Sequence[Sequence[Unfinished]], proposals: Sequence[Proposal], outcome: Outcome
) -> Round:
    """Return the round in which each response of a group gets a candidate of the group's proposal, in order."""
    branches = [Branch(place, None) for place in range(size)]
    for proposal, group in zip(proposals, groups, strict=True):
        for index, one in enumerate(group):
            step = build_step(one.trajectory, replace(proposal, selected=index))
            branches[one.place] = Branch(one.place, replace(step, outcome=outcome))
    return Round(tuple(branches), tuple(proposals))


def _choose_rated(one: Unfinished, writer: Source) -> IsAsked | None:
    """Return which candidates make the score of a response: by aggregate ``last`` those that end it. None: all.

    Where the PRM's context may become too small, all are rated, so that a step without room is found when it is
    written (``make_in_room``), and a response that cannot go on has a score.
    """
    is_end, stop = one.is_end, one.params.stop
    if is_end is None or one.params.aggregate is not Aggregate.LAST:
        return None

    def is_rated(candidate: Candidate) -> bool:
        step = build_step(one.trajectory, Proposal(writer, (candidate,), {}, {}, selected=0))
        grown = one.trajectory.extend(step)
        return is_end(grown) or not has_ample_room(grown, stop)

    return is_rated


async def write_scored(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step; the PRM rates what the response's score is made of."""
    return await write_each(population, growing, ports, seed, rates_score=True)


async def write_rated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step that the PRM rates."""
    return await write_each(population, growing, ports, seed, rewards=True)


async def write_unrated(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let every unfinished response grow by one step. The PRM is not asked."""
    return await write_each(population, growing, ports, seed, rewards=False)


def pick_in_parts(population: Population, unfinished: Sequence[Unfinished], _seed: int) -> Sequence[Unfinished]:
    """Return all unfinished responses; with a rule for n those of a part, and none once it has enough scores."""
    if not unfinished or not is_over_responses(unfinished[0].params):
        return unfinished
    return pick_of_model(population, 0, unfinished)


def pick_of_model(responses: Population, first: int, unfinished: Sequence[Unfinished]) -> Sequence[Unfinished]:
    """Return what ``pick_in_parts`` does for the responses of one model, the first of which is at place ``first``."""
    own = [one for one in unfinished if 0 <= one.place - first < len(responses)]
    if not own or own[0].params.n_rule is None:
        return own
    params, rule = own[0].params, own[0].params.n_rule
    for end in part_ends(len(responses)):
        if waiting := [one for one in own if one.place - first < end]:
            return waiting
        if rule.is_enough([score(trajectory, params.aggregate) for trajectory in responses[:end]]):
            break
    return ()


def find_begun(population: Population) -> Population:
    """Return the responses that were begun: all, or the first parts of them."""
    return tuple(trajectory for trajectory in population if trajectory.steps)


async def choose_most_votes(population: Population, params: Params, answers: Answers, _seed: int) -> int:
    """Return the place of the first response whose answer most responses share. No answer, no vote."""
    votes = await count_votes(population, answers, [1.0] * len(population))
    return find_winner(votes) if votes else 0


async def count_votes(population: Population, answers: Answers, weights: Sequence[float]) -> dict[int, float]:
    """Return the weight of each answer, by the place of the first response that gives it. A weight of 0 is no vote."""
    first_of: dict[str, int] = {}  # an answer as written -> the place of the first response with an equal answer
    votes: defaultdict[int, float] = defaultdict(float)
    for place, (trajectory, weight) in enumerate(zip(population, weights, strict=True)):
        answer = await asyncio.to_thread(answers.find, trajectory.text) if weight else None
        if answer is not None:
            if answer not in first_of:
                first_of[answer] = await _first_equal(answer, place, first_of, answers)
            votes[first_of[answer]] += weight
    return votes


def find_winner(votes: Mapping[int, float]) -> int:
    """Return the place of the answer with the most weight, the first of them."""
    return max(votes, key=lambda first: (votes[first], -first))


async def _first_equal(answer: str, place: int, first_of: Mapping[str, int], answers: Answers) -> int:
    """Return the place of the first response with an equal answer; ``place`` itself if no earlier answer is equal."""
    different: set[int] = set()
    for other, first in first_of.items():
        if first not in different and await answers.are_equal(other, answer):
            return first
        different.add(first)
    return place


MAJORITY_VOTE = Method(
    name="majority-vote",
    summary="one model writes n whole responses; the answer is the one that most responses share",
    source="RSD, section 3",
    make_round=write_unrated,
    start=start_with_n,
    choose=choose_most_votes,
    asks_rewards=in_no_job,
    is_search=in_every_job,
    parameters=("n", "role"),
)
