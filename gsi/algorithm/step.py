"""One step of Algorithm 1 (GSI paper, lines 3 to 13): ``run_step`` is the whole of the method.

Draft n candidates and score each under the target and the PRM; select one by its tilted reward; keep it if that
reaches u, else let the target write the step anew. The line numbers are the paper's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gsi.algorithm.acceptance import is_accepted
from gsi.algorithm.candidates import Candidate, Outcome, Rejected, Source, Step, Trajectory
from gsi.algorithm.params import Method, Params
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches
from gsi.algorithm.proposal import Proposal, Scorer, propose_and_score
from gsi.algorithm.seeds import derive_seed, uniform
from gsi.algorithm.soft_best_of_n import select
from gsi.algorithm.tilting import log_ratio, rankable, tilted_reward


@dataclass(frozen=True, slots=True)
class MadeStep:
    """A step with the proposals it was made from. The log ratios (nats) and tilted rewards are the draft's."""

    step: Step
    proposals: Mapping[Source, Proposal]
    log_ratios: Sequence[float] = ()
    tilted_rewards: Sequence[float] = ()

    @property
    def seconds(self) -> float:
        """How long the models took: the proposals follow one another, scoring runs beside each."""
        return sum(max(proposal.seconds.values()) for proposal in self.proposals.values())

    def num_tokens(self, source: Source) -> int:
        """Return how many tokens a model wrote for this step, those of discarded candidates too."""
        return self.proposals[source].num_tokens if source in self.proposals else 0


MakeStep = Callable[[Trajectory, Params, Ports, int], Awaitable[MadeStep]]


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> MadeStep:
    """Make the step that follows ``trajectory`` by Algorithm 1. ``seed`` is the job's."""
    drafted = await _propose(Source.DRAFT, trajectory, params, ports, seed, needs_likelihood=True)  # lines 3, 4
    log_ratios = list(map(log_ratio, drafted.scores["target"], (c.log_likelihood for c in drafted.candidates)))
    tilted = [tilted_reward(r, ratio, params.beta) for r, ratio in zip(drafted.scores["prm"], log_ratios, strict=True)]
    chosen = select(tilted, params.beta, _selection_uniform(Source.DRAFT, trajectory, seed))  # line 5
    if is_accepted(tilted[chosen], params.acceptance_threshold):  # line 6
        step = _kept(Source.DRAFT, trajectory, drafted, chosen, tilted[chosen])  # line 7
        return MadeStep(step, {Source.DRAFT: drafted}, log_ratios, tilted)
    anew = await _soft_best_of_n(Source.TARGET, trajectory, params, ports, seed)  # lines 9 to 12
    step = replace(anew.step, outcome=Outcome.RESAMPLED, rejected=_rejected(drafted, chosen, tilted[chosen]))
    return MadeStep(step, {Source.DRAFT: drafted, **anew.proposals}, log_ratios, tilted)


async def draft_soft_best_of_n(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> MadeStep:
    """Make a step by soft best-of-n on the draft alone (section 2); no test, no target."""
    return await _soft_best_of_n(Source.DRAFT, trajectory, params, ports, seed)


async def target_soft_best_of_n(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> MadeStep:
    """Make a step by soft best-of-n on the target alone (section 2); no draft."""
    return await _soft_best_of_n(Source.TARGET, trajectory, params, ports, seed)


METHODS: Mapping[Method, MakeStep] = {
    Method.GSI: run_step,
    Method.SOFT_BEST_OF_N_DRAFT: draft_soft_best_of_n,
    Method.SOFT_BEST_OF_N_TARGET: target_soft_best_of_n,
}


async def _soft_best_of_n(source: Source, trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> MadeStep:
    proposal = await _propose(source, trajectory, params, ports, seed)
    rewards = [rankable(reward) for reward in proposal.scores["prm"]]
    chosen = select(rewards, params.beta, _selection_uniform(source, trajectory, seed))
    return MadeStep(_kept(source, trajectory, proposal, chosen), {source: proposal})


async def _propose(
    source: Source,
    trajectory: Trajectory,
    params: Params,
    ports: Ports,
    seed: int,
    needs_likelihood: bool = False,
) -> Proposal:
    """Let ``source`` propose; the PRM, and where a ratio is needed the target, score along."""
    prefix = trajectory.token_ids
    texts = [step.text for step in trajectory.steps]

    def reward(candidates: CandidateBatches) -> ScoreBatches:
        return ports.prm.score(trajectory.prompt.messages, texts, candidates)

    def likelihood(candidates: CandidateBatches) -> ScoreBatches:
        return ports.target.score(prefix, params.sampling, candidates)

    n = params.n if source is Source.DRAFT else params.num_target_candidates
    proposer = ports.draft if source is Source.DRAFT else ports.target
    proposals = proposer.propose(prefix, n, params.sampling, derive_seed(seed, len(trajectory.steps), source))
    scorers: Mapping[str, Scorer] = {"prm": reward} | ({"target": likelihood} if needs_likelihood else {})
    return await propose_and_score(n, proposals, scorers)


def _selection_uniform(source: Source, trajectory: Trajectory, seed: int) -> float:
    return uniform(seed, len(trajectory.steps), source, "select")


def _kept(source: Source, trajectory: Trajectory, proposal: Proposal, chosen: int, tilted: float | None = None) -> Step:
    candidate: Candidate = proposal.candidates[chosen]
    likelihoods = {Source.DRAFT: None, Source.TARGET: None, source: candidate.log_likelihood}
    if "target" in proposal.scores:
        likelihoods[Source.TARGET] = proposal.scores["target"][chosen]
    return Step(
        index=len(trajectory.steps),
        token_ids=candidate.token_ids,
        text=candidate.text,
        source=source,
        outcome=Outcome.ACCEPTED,
        finish_reason=candidate.finish_reason,
        reward=proposal.scores["prm"][chosen],
        best_reward=max(map(rankable, proposal.scores["prm"])),
        tilted_reward=tilted,
        log_likelihood_draft=likelihoods[Source.DRAFT],
        log_likelihood_target=likelihoods[Source.TARGET],
    )


def _rejected(drafted: Proposal, chosen: int, tilted: float) -> Rejected:
    candidate = drafted.candidates[chosen]
    return Rejected(
        text=candidate.text,
        reward=drafted.scores["prm"][chosen],
        tilted_reward=tilted,
        log_likelihood_draft=candidate.log_likelihood,
        log_likelihood_target=drafted.scores["target"][chosen],
    )
