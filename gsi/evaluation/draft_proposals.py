"""Draft proposals on record as plain numbers: what calibration and theory compute from.

A job of ``gsi`` over whole responses has one: its candidates are the draft's responses, as the rule sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Outcome, Prompt, Source, Trajectory, grow
from gsi.algorithm.methods.gsi import GSI, draw_response
from gsi.algorithm.params import Aggregate, Params, Scope
from gsi.algorithm.parts import score, step_log_ratio
from gsi.algorithm.seeds import uniform
from gsi.algorithm.tilting import log_ratio
from gsi.errors import InvalidRequestError
from gsi.evaluation.records import RecordedJob
from gsi.jobs.step_record import ProposalRecord, StepRecord


@dataclass(frozen=True, slots=True)
class DraftProposal:
    """A recorded draft proposal: what lines 4 to 6 of Algorithm 1 need, one entry per candidate, in index order.

    ``target_rewards`` is empty if the target did not write. ``log_ratios`` are in nats; -inf: the target would never
    write the candidate.
    """

    problem: str
    index: int  # of the step
    rewards: tuple[float, ...]
    log_ratios: tuple[float, ...]
    num_tokens: tuple[int, ...]
    uniform: float  # the number that selected the candidate
    selected: int | None
    is_accepted: bool
    target_rewards: tuple[float, ...]
    target_num_tokens: tuple[int, ...]

    @property
    def is_first(self) -> bool:
        return self.index == 0


def read_draft_proposals(records: Sequence[RecordedJob], *, needs_ratios: bool = True) -> list[DraftProposal]:
    """Return, in the records' order, every draft proposal that has each candidate's reward and likelihoods.

    Without ``needs_ratios``, likelihoods are not read and log ratios are 0: a tilted reward is a reward then, as
    method rsd tests it. Raises InvalidRequestError if there is none.
    """
    found = [proposal for record in records for proposal in _read_record(record, needs_ratios=needs_ratios)]
    if not found:
        raise InvalidRequestError(
            "records: no draft proposal has every reward and both likelihoods; allowed: records of method gsi"
            if needs_ratios
            else "records: no draft proposal has every reward; allowed: records of method rsd or gsi"
        )
    return found


def is_of_responses(record: RecordedJob) -> bool:
    """Return whether a job of ``gsi`` chose among whole responses."""
    return record.params.get("method") == GSI.name and record.params.get("scope") == Scope.RESPONSES


def _read_record(record: RecordedJob, *, needs_ratios: bool) -> list[DraftProposal]:
    if is_of_responses(record):
        read = [_read_responses(record)]
    else:
        read = [_read_proposal(record, step, needs_ratios=needs_ratios) for step in record.steps]
    return [proposal for proposal in read if proposal is not None]


def _read_responses(record: RecordedJob) -> DraftProposal | None:
    """Return the draft's responses as one proposal; None if one of them is empty, or lacks a likelihood."""
    params = Params(
        method=GSI.name,
        n=record.n,
        n_target=record.params.get("n_target"),
        beta=record.params["beta"],
        acceptance_threshold=record.params["acceptance_threshold"],
        scope=Scope.RESPONSES,
        aggregate=Aggregate(record.params["aggregate"]),
    )
    population = GSI.start(Trajectory(Prompt((), ())), params)
    for made in record.steps:
        population = grow(population, made.to_branches())
    drafted, anew = population[: params.n], [one for one in population[params.n :] if one.steps]
    likelihoods = [(step.log_likelihood_draft, step.log_likelihood_target) for one in drafted for step in one.steps]
    if not all(one.steps for one in drafted) or any(None in pair for pair in likelihoods):
        return None
    seed = record.params["seed"]
    return DraftProposal(
        problem=record.problem,
        index=0,
        rewards=tuple(score(one, params.aggregate) for one in drafted),
        log_ratios=tuple(sum(step_log_ratio(step) for step in one.steps) for one in drafted),
        num_tokens=tuple(one.num_step_tokens for one in drafted),
        uniform=uniform(seed, "response", Source.DRAFT, "select"),
        selected=draw_response(population, params, seed)[0],
        is_accepted=not anew,
        target_rewards=tuple(score(one, params.aggregate) for one in anew),
        target_num_tokens=tuple(one.num_step_tokens for one in anew),
    )


def _read_proposal(record: RecordedJob, step: StepRecord, *, needs_ratios: bool) -> DraftProposal | None:
    drafted, target = _find_proposal(step, Source.DRAFT), _find_proposal(step, Source.TARGET)
    if drafted is None or len(drafted.candidates) < record.n:
        return None
    if drafted.selected is None and record.params.get("scope") == Scope.RESPONSES:
        return None  # parts of responses, of which none was drawn
    rewards = _list_rewards(drafted)
    log_ratios = _list_log_ratios(drafted) if needs_ratios else [0.0] * len(drafted.candidates)
    if not len(rewards) == len(log_ratios) == len(drafted.candidates):
        return None
    return DraftProposal(
        problem=record.problem,
        index=step.index,
        rewards=rewards,
        log_ratios=tuple(log_ratios),
        num_tokens=_list_lengths(drafted),
        uniform=uniform(record.params["seed"], step.index, Source.DRAFT, "select"),
        selected=drafted.selected,
        is_accepted=step.outcome is Outcome.ACCEPTED,
        target_rewards=_list_rewards(target) if target is not None else (),
        target_num_tokens=_list_lengths(target) if target is not None else (),
    )


def _find_proposal(step: StepRecord, source: Source) -> ProposalRecord | None:
    return next((proposal for proposal in step.proposals if proposal.source is source), None)


def _list_log_ratios(proposal: ProposalRecord) -> list[float]:
    return [
        log_ratio(candidate.log_likelihood_target, candidate.log_likelihood)
        for candidate in proposal.candidates
        if candidate.log_likelihood_target is not None
    ]


def _list_rewards(proposal: ProposalRecord) -> tuple[float, ...]:
    """Return the rewards of the candidates that the PRM was asked about."""
    return tuple(candidate.reward for candidate in proposal.candidates if candidate.reward is not None)


def _list_lengths(proposal: ProposalRecord) -> tuple[int, ...]:
    """Return each candidate's number of tokens."""
    return tuple(len(candidate.token_ids) for candidate in proposal.candidates)
