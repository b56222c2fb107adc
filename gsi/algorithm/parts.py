"""The parts that methods are made of: let a model propose, draw a candidate, accept it, or resample the step.

The methods themselves are in ``methods/``, a short module each; ``methods/gsi.py`` is Algorithm 1.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, nan, prod
from time import perf_counter
from typing import Any, TypeVar

from gsi.algorithm import judging
from gsi.algorithm.candidates import Judgement, Outcome, Population, Rejected, Source, Step, Trajectory
from gsi.algorithm.method import Answers
from gsi.algorithm.n_rule import part_ends
from gsi.algorithm.params import Aggregate, Params
from gsi.algorithm.ports import CandidateBatches, NoRoomError, Ports, ScoreBatches
from gsi.algorithm.proposal import Proposal, Scorer, join, propose_and_score
from gsi.algorithm.rating import IsAsked, Rater
from gsi.algorithm.round import NewStep
from gsi.algorithm.seeds import derive_seed, uniform
from gsi.algorithm.soft_best_of_n import select
from gsi.algorithm.tilting import log_ratio, rankable, tilted_reward

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which scorers a proposal has."""

    likelihoods: bool
    rewards: bool
    is_rated: IsAsked | None


async def propose(
    source: Source,
    trajectory: Trajectory,
    params: Params,
    ports: Ports,
    seed: int,
    n: int | None = None,
    *,
    likelihoods: bool = False,
    rewards: bool = True,
    is_rated: IsAsked | None = None,
) -> Proposal:
    """Let ``source`` write n candidates for the next step, and let the target and the PRM score them meanwhile.

    n is the job's number for this source unless given. If it is not given and the PRM scores, a job with a rule on n
    asks for the candidates in parts, until the rule has enough; otherwise all n are asked for at once.
    ``likelihoods`` asks the target to score, ``rewards`` the PRM: about those candidates of which ``is_rated`` says so,
    or about all.
    """
    seed = derive_seed(seed, len(trajectory.steps), source)
    asked = _Asked(likelihoods=likelihoods, rewards=rewards, is_rated=is_rated)
    rule = params.n_rule if n is None and rewards else None
    if n is None:
        n = params.n if source is Source.DRAFT else params.num_target_candidates
    parts: list[Proposal] = []
    for made, end in pairwise([0, *(part_ends(n) if rule else [n])]):
        own_seed = derive_seed(seed, "part", len(parts)) if parts else seed
        parts.append(await _propose_part(source, trajectory, params, ports, own_seed, end - made, asked))
        if rule and rule.is_enough([reward for part in parts for reward in part.rewards]):
            break
    return join(parts)


async def _propose_part(
    source: Source,
    trajectory: Trajectory,
    params: Params,
    ports: Ports,
    seed: int,
    n: int,
    asked: _Asked,
) -> Proposal:
    """Let ``source`` write n candidates at once. ``seed`` is their own."""
    prefix = trajectory.token_ids
    texts = [step.text for step in trajectory.steps]

    def rate(candidates: CandidateBatches) -> ScoreBatches:
        return ports.prm.score(trajectory.prompt.messages, texts, candidates)

    def likelihood(candidates: CandidateBatches) -> ScoreBatches:
        return ports.target.score(prefix, params.sampling, candidates)

    rater = Rater(rate, asked.is_rated)
    scorers: Mapping[str, Scorer] = ({"prm": rater.score} if asked.rewards else {}) | (
        {"target": likelihood} if asked.likelihoods else {}
    )
    proposer = ports.draft if source is Source.DRAFT else ports.target
    proposal = await propose_and_score(source, n, proposer.propose(prefix, n, params.sampling, seed), scorers)
    return rater.finish(proposal, trajectory, params.reward_map) if asked.rewards else proposal


def draw(proposal: Proposal, scores: Sequence[float], params: Params, trajectory: Trajectory, seed: int) -> Proposal:
    """Select a candidate by soft best-of-n on ``scores``; return the proposal with it."""
    number = uniform(seed, len(trajectory.steps), proposal.source, "select")
    return replace(proposal, selected=select(scores, params.beta, number))


async def soft_best_of_n(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Proposal:
    """Let one model propose, and select by soft best-of-n on the rewards (GSI paper, section 2)."""
    proposal = await propose(source, trajectory, params, ports, seed)
    return draw(proposal, proposal.rewards, params, trajectory, seed)


def accept(
    trajectory: Trajectory,
    proposal: Proposal,
    tilted_rewards: Sequence[float] = (),
    *,
    others: tuple[Proposal, ...] = (),
) -> NewStep:
    """Keep the drawn candidate. ``others`` were written for the same step, and are dropped."""
    return NewStep(build_step(trajectory, proposal, tilted_rewards), (proposal, *others), tilted_rewards)


async def resample(
    trajectory: Trajectory,
    drafted: Proposal,
    params: Params,
    ports: Ports,
    seed: int,
    tilted_rewards: Sequence[float] = (),
) -> NewStep:
    """Reject the drawn candidate of the draft: the target writes the step, by soft best-of-n on the rewards."""
    written = await soft_best_of_n(Source.TARGET, trajectory, params, ports, seed)
    return replace_draft(trajectory, drafted, written, tilted_rewards)


def replace_draft(
    trajectory: Trajectory, drafted: Proposal, written: Proposal, tilted_rewards: Sequence[float] = ()
) -> NewStep:
    """Reject the drawn candidate of the draft, and keep what the target has ``written``."""
    rejected = _reject(drafted, tilted_rewards)
    step = replace(build_step(trajectory, written), outcome=Outcome.RESAMPLED, rejected=rejected)
    return NewStep(step, (drafted, written), tilted_rewards)


async def propose_one(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Proposal:
    """Let ``source`` write the one candidate for the next step that there is to be. The PRM is not asked."""
    proposal = await propose(source, trajectory, params, ports, seed, 1, rewards=False)
    return replace(proposal, selected=0)


async def judge(
    source: Source, trajectory: Trajectory, drafted: Proposal, params: Params, ports: Ports
) -> tuple[Judgement, Proposal]:
    """Let ``source`` judge the drawn candidate by the job's prompt; return the proposal with the time that this took.

    Raises NoRoomError, whose room is that of a candidate, if the judge cannot read candidate and question.
    """
    started, prefix = perf_counter(), trajectory.token_ids
    candidate, prompt = drafted.candidates[drafted.drawn], params.judge_prompt
    try:
        found = await ports.judges[source].judge((*prefix, *candidate.token_ids), prompt.question)
    except NoRoomError as error:
        raise NoRoomError(str(error), error.room - len(prefix)) from error
    judgement = Judgement(
        source=source,
        probabilities=found.values,
        score=judging.score(found.values, prompt.values, params.judge_score),
        num_tokens=len(candidate.token_ids) + found.num_tokens,
    )
    seconds = drafted.total_seconds + perf_counter() - started
    return judgement, replace(drafted, seconds={**drafted.seconds, f"judge by {source}": seconds})


async def write_instead(
    trajectory: Trajectory,
    drafted: Proposal,
    judgements: Sequence[Judgement],
    params: Params,
    ports: Ports,
    seed: int,
) -> NewStep:
    """Reject the drawn candidate of the draft by judgements: the target writes one candidate, which is kept."""
    written = await propose_one(Source.TARGET, trajectory, params, ports, seed)
    step = replace(
        build_step(trajectory, written),
        outcome=Outcome.RESAMPLED,
        rejected=_reject(drafted, ()),
        judgements=tuple(judgements),
    )
    return NewStep(step, (drafted, written))


def accept_judged(trajectory: Trajectory, drafted: Proposal, judgements: Sequence[Judgement]) -> NewStep:
    """Keep the drawn candidate of the draft, with what was said of it."""
    return NewStep(replace(build_step(trajectory, drafted), judgements=tuple(judgements)), (drafted,))


def is_hopeless(drafted: Proposal, params: Params) -> bool:
    """Return whether the answer ends without this step, whatever the target would write (the authors' code)."""
    return params.stop.drops_low_step and params.stop.is_low(max(drafted.rewards))


def build_step(trajectory: Trajectory, proposal: Proposal, tilted_rewards: Sequence[float] = ()) -> Step:
    """Return the drawn candidate as the step that follows ``trajectory``."""
    drawn = proposal.drawn
    candidate = proposal.candidates[drawn]
    is_rated = proposal.is_rated and drawn not in proposal.unrated
    likelihoods = {Source.DRAFT: None, Source.TARGET: None, proposal.source: candidate.log_likelihood}
    if "target" in proposal.scores:
        likelihoods[Source.TARGET] = proposal.scores["target"][drawn]
    return Step(
        index=len(trajectory.steps),
        token_ids=candidate.token_ids,
        text=candidate.text,
        source=proposal.source,
        outcome=Outcome.ACCEPTED,
        finish_reason=candidate.finish_reason,
        reward=proposal.scores["prm"][drawn] if is_rated else nan,
        best_reward=max(proposal.rewards) if is_rated else nan,
        tilted_reward=tilted_rewards[drawn] if tilted_rewards else None,
        log_likelihood_draft=likelihoods[Source.DRAFT],
        log_likelihood_target=likelihoods[Source.TARGET],
    )


def _reject(drafted: Proposal, tilted_rewards: Sequence[float]) -> Rejected:
    drawn = drafted.drawn
    candidate = drafted.candidates[drawn]
    return Rejected(
        text=candidate.text,
        reward=drafted.scores["prm"][drawn] if drafted.is_rated else nan,
        tilted_reward=tilted_rewards[drawn] if tilted_rewards else None,
        log_likelihood_draft=candidate.log_likelihood,
        log_likelihood_target=drafted.scores["target"][drawn] if "target" in drafted.scores else None,
    )


def aggregate_rewards(rewards: Sequence[float], aggregate: Aggregate) -> float:
    """Return the score of a trajectory from the rewards of its steps; -inf if a reward that counts is not a number."""
    ranked = [rankable(reward) for reward in rewards]
    if not ranked or (aggregate is Aggregate.PRODUCT and -inf in ranked):
        return -inf  # nothing was written; or no product can be ranked
    match aggregate:
        case Aggregate.LAST:
            return ranked[-1]
        case Aggregate.MINIMUM:
            return min(ranked)
        case Aggregate.PRODUCT:
            return prod(ranked)


def score(trajectory: Trajectory, aggregate: Aggregate) -> float:
    """Return the score of a trajectory, on the reward's scale."""
    return aggregate_rewards([step.reward for step in trajectory.steps], aggregate)


def tilted_score(trajectory: Trajectory, params: Params) -> float:
    """Return r~ of GSI's section 3 for a whole trajectory: its score, tilted by the log-ratio of all its steps.

    The draft wrote the steps, and the target scored each. Raises ValueError for a step without both likelihoods.
    """
    log_ratios = [step_log_ratio(step) for step in trajectory.steps]
    return tilted_reward(score(trajectory, params.aggregate), sum(log_ratios), params.beta)


def step_log_ratio(step: Step) -> float:
    """Return log(pi_B / pi_S) of a kept step in nats. Raises ValueError unless both models' likelihoods are known."""
    if step.log_likelihood_target is None or step.log_likelihood_draft is None:
        raise ValueError(f"step {step.index} has no likelihood of both models")
    return log_ratio(step.log_likelihood_target, step.log_likelihood_draft)


async def choose_highest_score(population: Population, params: Params, _answers: Answers, _seed: int) -> int:
    """Return the place of the trajectory with the highest score, the first of them."""
    scores = [score(trajectory, params.aggregate) for trajectory in population]
    return scores.index(max(scores))


async def run_all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; return the results in order. If one fails, cancel the others and raise its error."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
