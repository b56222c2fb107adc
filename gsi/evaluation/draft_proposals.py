"""Draft proposals on record as plain numbers: what calibration and theory compute from."""

from collections.abc import Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.params import Scope
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
    read = (_read_proposal(record, step, needs_ratios=needs_ratios) for record in records for step in record.steps)
    found = [proposal for proposal in read if proposal is not None]
    if not found:
        raise InvalidRequestError(
            "records: no draft proposal has every reward and both likelihoods; allowed: records of method gsi"
            if needs_ratios
            else "records: no draft proposal has every reward; allowed: records of method rsd or gsi"
        )
    return found


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
