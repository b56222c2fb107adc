"""Draft proposals on record as plain numbers, and means over them: what calibration and theory both begin with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.seeds import uniform
from gsi.algorithm.tilting import log_ratio
from gsi.evaluation.records import RecordedJob
from gsi.jobs.step_record import ProposalRecord, StepRecord

NUM_RESAMPLES = 2_000  # of the bootstrap; a quantile at 2.5 % then rests on 50 of them


@dataclass(frozen=True, slots=True)
class DraftedStep:
    """A recorded draft proposal: what lines 4 to 6 of Algorithm 1 need, one entry a candidate, in index order.

    ``target_rewards`` is empty where the target did not write. ``log_ratios`` are in nats; -inf: the target would
    never write it.
    """

    problem: str
    index: int
    rewards: tuple[float, ...]
    log_ratios: tuple[float, ...]
    num_tokens: tuple[int, ...]
    uniform: float  # the number that selected
    selected: int | None
    is_accepted: bool
    target_rewards: tuple[float, ...]
    target_num_tokens: tuple[int, ...]

    @property
    def is_first(self) -> bool:
        return self.index == 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval, which is (-inf, inf) unless there are two problems."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def drafted_steps(records: Sequence[RecordedJob]) -> list[DraftedStep]:
    """Return, in the records' order, every step whose draft proposal has each candidate's reward and likelihoods."""
    return [
        drafted for record in records for step in record.steps if (drafted := _drafted_step(record, step)) is not None
    ]


def estimate_mean(values: Sequence[float], problems: Sequence[str]) -> Interval:
    """Return the mean of values, one a step, with the 95 % interval of a bootstrap over problems.

    Percentiles of ``NUM_RESAMPLES`` resamples of whole problems (Davison and Hinkley, *Bootstrap Methods and their
    Application*, 1997, section 3.8), always the same ones. Of no values the mean is nan.
    """
    if not values:
        return Interval(math.nan, -math.inf, math.inf)
    names, owner = np.unique(np.asarray(problems), return_inverse=True)
    sums, counts = np.bincount(owner, weights=values), np.bincount(owner)
    mean = float(sums.sum() / counts.sum())
    if len(names) == 1:
        return Interval(mean, -math.inf, math.inf)
    interval = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=NUM_RESAMPLES,
        rng=0,
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high))


def _drafted_step(record: RecordedJob, step: StepRecord) -> DraftedStep | None:
    drafted, target = _proposal(step, Source.DRAFT), _proposal(step, Source.TARGET)
    if drafted is None or len(drafted.candidates) < record.n:
        return None
    rewards = _rewards(drafted)
    log_ratios = [
        log_ratio(candidate.log_likelihood_target, candidate.log_likelihood)
        for candidate in drafted.candidates
        if candidate.log_likelihood_target is not None
    ]
    if not len(rewards) == len(log_ratios) == len(drafted.candidates):
        return None
    return DraftedStep(
        problem=record.problem,
        index=step.index,
        rewards=rewards,
        log_ratios=tuple(log_ratios),
        num_tokens=_num_tokens(drafted),
        uniform=uniform(record.params["seed"], step.index, Source.DRAFT, "select"),
        selected=drafted.selected,
        is_accepted=step.outcome is Outcome.ACCEPTED,
        target_rewards=_rewards(target) if target is not None else (),
        target_num_tokens=_num_tokens(target) if target is not None else (),
    )


def _proposal(step: StepRecord, source: Source) -> ProposalRecord | None:
    return next((proposal for proposal in step.proposals if proposal.source is source), None)


def _rewards(proposal: ProposalRecord) -> tuple[float, ...]:
    """Return the rewards of those candidates that the PRM was asked about."""
    return tuple(candidate.reward for candidate in proposal.candidates if candidate.reward is not None)


def _num_tokens(proposal: ProposalRecord) -> tuple[int, ...]:
    return tuple(len(candidate.token_ids) for candidate in proposal.candidates)
