"""What a method makes, and the parts that methods are made of: propose, select, keep, resample.

The methods themselves are in ``methods/``, a short module each; ``methods/gsi.py`` is Algorithm 1.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan

from gsi.algorithm.candidates import Branch, Outcome, Population, Rejected, Source, Step, Trajectory
from gsi.algorithm.params import Params
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches
from gsi.algorithm.proposal import Proposal, Scorer, propose_and_score
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed, uniform
from gsi.algorithm.soft_best_of_n import select

MakeStep = Callable[[Trajectory, Params, Ports, int], Awaitable[Round]]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A trajectory that is to grow: its place in the population, and the parameters within its own token limit."""

    place: int
    trajectory: Trajectory
    params: Params


MakeRound = Callable[[Population, Sequence[Unfinished], Ports, int], Awaitable[Round]]


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
) -> Proposal:
    """Let ``source`` write n candidates for the next step; the target and the PRM score along where they are asked.

    n is the job's for this source unless given; ``likelihoods`` asks the target, ``rewards`` the PRM.
    """
    prefix = trajectory.token_ids
    texts = [step.text for step in trajectory.steps]

    def reward(candidates: CandidateBatches) -> ScoreBatches:
        return ports.prm.score(trajectory.prompt.messages, texts, candidates)

    def likelihood(candidates: CandidateBatches) -> ScoreBatches:
        return ports.target.score(prefix, params.sampling, candidates)

    scorers: Mapping[str, Scorer] = ({"prm": reward} if rewards else {}) | (
        {"target": likelihood} if likelihoods else {}
    )
    if n is None:
        n = params.n if source is Source.DRAFT else params.num_target_candidates
    proposer = ports.draft if source is Source.DRAFT else ports.target
    proposals = proposer.propose(prefix, n, params.sampling, derive_seed(seed, len(trajectory.steps), source))
    proposal = await propose_and_score(source, n, proposals, scorers)
    raw = proposal.scores.get("prm", [])
    mapped = {"prm": [params.reward_map.reward(score) for score in raw]} if rewards else {}
    return replace(proposal, scores={**proposal.scores, **mapped})


def draw(proposal: Proposal, scores: Sequence[float], params: Params, trajectory: Trajectory, seed: int) -> Proposal:
    """Select a candidate by soft best-of-n on ``scores``; return the proposal with it."""
    number = uniform(seed, len(trajectory.steps), proposal.source, "select")
    return replace(proposal, selected=select(scores, params.beta, number))


async def soft_best_of_n(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> Proposal:
    """Let one model propose, and select by soft best-of-n on the rewards (GSI paper, section 2)."""
    proposal = await propose(source, trajectory, params, ports, seed)
    return draw(proposal, proposal.rewards, params, trajectory, seed)


def accepted(trajectory: Trajectory, proposal: Proposal, tilted_rewards: Sequence[float] = ()) -> Round:
    """Keep the selected candidate."""
    return Round((Branch(0, kept(trajectory, proposal, tilted_rewards)),), (proposal,), tilted_rewards)


async def resampled(
    trajectory: Trajectory,
    drafted: Proposal,
    params: Params,
    ports: Ports,
    seed: int,
    tilted_rewards: Sequence[float] = (),
) -> Round:
    """Let the target write the step anew by soft best-of-n; keep the rejected candidate beside it."""
    anew = await soft_best_of_n(Source.TARGET, trajectory, params, ports, seed)
    step = replace(kept(trajectory, anew), outcome=Outcome.RESAMPLED, rejected=_rejected(drafted, tilted_rewards))
    return Round((Branch(0, step),), (drafted, anew), tilted_rewards)


def kept(trajectory: Trajectory, proposal: Proposal, tilted_rewards: Sequence[float] = ()) -> Step:
    """Return the selected candidate as the step that follows ``trajectory``."""
    chosen = proposal.drawn
    candidate = proposal.candidates[chosen]
    likelihoods = {Source.DRAFT: None, Source.TARGET: None, proposal.source: candidate.log_likelihood}
    if "target" in proposal.scores:
        likelihoods[Source.TARGET] = proposal.scores["target"][chosen]
    return Step(
        index=len(trajectory.steps),
        token_ids=candidate.token_ids,
        text=candidate.text,
        source=proposal.source,
        outcome=Outcome.ACCEPTED,
        finish_reason=candidate.finish_reason,
        reward=proposal.scores["prm"][chosen] if proposal.is_rated else nan,
        best_reward=max(proposal.rewards) if proposal.is_rated else nan,
        tilted_reward=tilted_rewards[chosen] if tilted_rewards else None,
        log_likelihood_draft=likelihoods[Source.DRAFT],
        log_likelihood_target=likelihoods[Source.TARGET],
    )


def _rejected(drafted: Proposal, tilted_rewards: Sequence[float]) -> Rejected:
    chosen = drafted.drawn
    candidate = drafted.candidates[chosen]
    return Rejected(
        text=candidate.text,
        reward=drafted.scores["prm"][chosen],
        tilted_reward=tilted_rewards[chosen] if tilted_rewards else None,
        log_likelihood_draft=candidate.log_likelihood,
        log_likelihood_target=drafted.scores["target"][chosen] if "target" in drafted.scores else None,
    )
