"""What other settings of beta, u and n would have done with the candidates that are on record, without a model.

The same for method ``rsd`` with the binary weighting, which tests the reward alone: its log ratios count as 0, and its
delta stands in the place of u.

A draft proposal of method ``gsi`` keeps the reward and both likelihoods of every candidate. Lines 4 to 6 of Algorithm 1
(GSI paper) read nothing else, so they can be computed again for any beta and u, and for any n up to the recorded one.
What is sound:

- After a given prefix the candidates are i.i.d. draws of the draft, whatever beta and u are, and so are the first m
  candidates. The acceptance of a step is exact given its candidates: the selection is averaged out, not drawn.
- All jobs begin with the prompt, so figures of the first step are unbiased for every setting.
- The prefixes of later steps depend on the setting that wrote them. Figures over all steps therefore hold for the
  recorded prefixes: they are right for the recorded setting, and an approximation for other settings, worse the
  further away.
- Accuracy cannot be computed so. Choose a few settings (``choose_worth_running``), run them, and choose by what was
  measured (``recommendation.py``).

A job over whole responses is one step, whose candidates are the responses.

Costs are means per step. Steps are weighed equally; intervals are of 95 % and take the problem as the unit, since steps
of one problem are alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from gsi.algorithm.candidates import Source
from gsi.algorithm.methods.gsi import is_accepted
from gsi.algorithm.soft_best_of_n import probabilities, select
from gsi.algorithm.tilting import rankable, tilted_reward
from gsi.errors import InvalidRequestError
from gsi.evaluation.costs import estimate_flops, list_parameter_counts
from gsi.evaluation.draft_proposals import DraftProposal, is_of_responses, read_draft_proposals
from gsi.evaluation.estimates import Estimate, bootstrap_mean
from gsi.evaluation.records import RecordedJob

PAPERS = {"gsi": (20.0, 0.5), "rsd": (20.0, 0.7)}  # beta, and u or delta: GSI paper, section 4
MAX_WORTH_RUNNING = 6
DEFAULT_BETAS = (5.0, 10.0, 20.0, 40.0, 80.0)
DEFAULT_THRESHOLDS = (-0.5, 0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What is calibrated. A resampling has the records' ``n_target`` candidates, or else n.

    Of method rsd ``acceptance_threshold`` is the delta of the binary weighting.
    """

    beta: float
    acceptance_threshold: float
    n: int


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """What a setting would do per step. ``reward`` is the expected PRM reward of the kept step (see ``calibrate``)."""

    setting: Setting
    is_recorded: bool
    num_steps: int
    acceptance: Estimate  # share of steps, at the recorded prefixes
    first_step_acceptance: Estimate
    effective_sample_size: float  # 1 / sum of squared weights; 0 where no candidate has a weight
    effective_share: float  # of n
    changed_share: float | None  # of steps whose candidate or outcome would differ; None for records not of method gsi
    draft_tokens: float  # written by the draft, read by the PRM
    scored_tokens: float  # read by the target, which scores them; 0 for method rsd
    target_tokens: float  # written by the target, read by the PRM
    flops: float | None  # None where a model's number of parameters is unknown
    reward: float
    imputed_share: float = 0.0  # of the resamplings: their reward and length are means of other steps, or the draft's

    @property
    def prm_tokens(self) -> float:
        """Tokens that the PRM reads to rate them."""
        return self.draft_tokens + self.target_tokens

    @property
    def cost(self) -> float:
        """FLOPs, or if these are unknown the tokens of all three roles, counted alike."""
        tokens = self.draft_tokens + self.scored_tokens + self.target_tokens + self.prm_tokens
        return tokens if self.flops is None else self.flops


@dataclass(frozen=True, slots=True)
class Calibration:
    """A row per setting, and what the rows rest on."""

    rows: tuple[CalibrationRow, ...]
    method: str  # gsi or rsd
    num_problems: int
    num_left_out: int  # steps without a draft proposal that has every reward and both likelihoods of n candidates
    target_figures_from: (
        Source  # draft: no proposal of the target is on record, so the target's figures are the draft's
    )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Everything that is read of the records, once."""

    proposals: tuple[DraftProposal, ...]
    method: str  # whose settings are computed: gsi or rsd
    setting: Setting | None  # None for records of another method: they were made without a test
    n: int
    n_target: int | None
    num_parameters: Mapping[str, int | None]  # by role
    num_left_out: int

    @property
    def target_figures_from(self) -> Source:
        return Source.TARGET if any(proposal.target_rewards for proposal in self.proposals) else Source.DRAFT


@dataclass(frozen=True, slots=True)
class _WeighedProposal:
    """A draft proposal under one beta and n: line 4, the law of line 5, and what a resampling is worth."""

    proposal: DraftProposal
    tilted: Sequence[float]
    law: Sequence[float]
    chosen: int
    target_reward: float
    is_imputed: bool  # whether the target's reward is not that of the step's own target proposal

    def compute_acceptance(self, u: float) -> float:
        """Return the probability that the step is accepted."""
        accepted = math.fsum(p for p, tilted in zip(self.law, self.tilted, strict=True) if is_accepted(tilted, u))
        return min(accepted, 1.0)  # rounding may pass 1 by a hair

    def compute_reward(self, u: float) -> float:
        """Return the expected PRM reward of the kept step; a candidate that cannot be selected has no part in it."""
        parts = zip(self.law, self.tilted, self.proposal.rewards, strict=False)  # of n candidates, the first m
        accepted = math.fsum(p * r for p, tilted, r in parts if p > 0 and is_accepted(tilted, u))
        return accepted + (1 - self.compute_acceptance(u)) * self.target_reward

    def is_changed(self, u: float) -> bool:
        """Return whether the step would differ from the recorded one in its candidate or its outcome."""
        as_recorded = (self.proposal.selected, self.proposal.is_accepted)
        return (self.chosen, is_accepted(self.tilted[self.chosen], u)) != as_recorded


def compute_effective_sample_size(tilted: Sequence[float], beta: float) -> float:
    """Return 1 / sum of squared selection weights: n for equal weights, 1 where one dominates, 0 where all are -inf.

    Kish's measure, as importance sampling uses it (Owen, *Monte Carlo theory, methods and examples*, section 9.3).
    """
    if max(tilted) == -math.inf:
        return 0.0
    return 1 / math.fsum(weight**2 for weight in probabilities(tilted, beta))


def calibrate(
    records: Sequence[RecordedJob],
    betas: Sequence[float] = DEFAULT_BETAS,
    thresholds: Sequence[float] = DEFAULT_THRESHOLDS,
    ns: Sequence[int] = (),
) -> Calibration:
    """Return the figures of every (beta, u, n), ascending; the recorded and the paper's setting are always included.

    ``records`` are of one setting. ``ns`` may not exceed the recorded n, which is also the default: a smaller n takes
    the first candidates of each proposal.

    The tokens of a resampling are ``n_target`` times the mean length of the target's recorded candidates; its reward is
    the soft best-of-n mean of the step's own target proposal, or of all target proposals if the step has none (an
    approximation, since these follow other prefixes). If the target wrote nothing at all, both are the draft's, and
    ``target_figures_from`` says so. FLOPs are two per parameter and token; reading the prefix and the work of attention
    are not counted. Raises InvalidRequestError.
    """
    recorded = _read_records(records)
    ns = ns or (recorded.n,)
    _check_grid(betas, thresholds, ns, recorded.n)
    paper = Setting(*PAPERS[recorded.method], recorded.n)
    settings = {Setting(*values) for values in product(betas, thresholds, ns)} | {paper}
    settings |= {recorded.setting} if recorded.setting is not None else set()
    rows: list[CalibrationRow] = []
    for beta, n in sorted({(setting.beta, setting.n) for setting in settings}):
        weighed = _weigh_proposals(recorded, beta, n)
        rows += [_compute_calibration_row(s, weighed, recorded) for s in settings if (s.beta, s.n) == (beta, n)]
    return Calibration(
        rows=tuple(sorted(rows, key=lambda row: row.setting)),
        method=recorded.method,
        num_problems=len({proposal.problem for proposal in recorded.proposals}),
        num_left_out=recorded.num_left_out,
        target_figures_from=recorded.target_figures_from,
    )


def choose_worth_running(
    grid: Sequence[CalibrationRow], k: int = MAX_WORTH_RUNNING, method: str = "gsi"
) -> list[CalibrationRow]:
    """Return at most k settings to run for real, in order of cost.

    The recorded and the paper's setting are always chosen. The others are Pareto choices between the expected cost and
    the expected PRM reward of the kept step (no setting costs less and promises as much), spread evenly over the range
    of cost. The reward is a proxy: it is what the method maximises, and the records hold it for every step. A large
    beta pleases the PRM at the expense of the target's likelihood, so the proxy says what to run, not what to use.
    Raises InvalidRequestError for k outside 2 to 6.
    """
    if not 2 <= k <= MAX_WORTH_RUNNING:
        raise InvalidRequestError(f"k: {k} is not allowed; allowed: a whole number from 2 to {MAX_WORTH_RUNNING}")
    by_cost = sorted(grid, key=lambda row: (row.cost, -row.reward, row.setting))
    most_candidates = max((row.setting.n for row in grid), default=0)
    paper = Setting(*PAPERS[method], most_candidates)
    chosen = [row for row in by_cost if row.is_recorded or row.setting == paper]
    front: list[CalibrationRow] = []
    for row in by_cost:
        if not front or row.reward > front[-1].reward:
            front.append(row)
    for cost in np.linspace(front[0].cost, front[-1].cost, k - len(chosen)) if front else ():
        left = [row for row in front if row not in chosen]
        if left:
            chosen.append(min(left, key=lambda row: abs(row.cost - cost)))
    return sorted(chosen, key=lambda row: (row.cost, row.setting))


def _read_records(records: Sequence[RecordedJob]) -> _Recorded:
    names = ("method", "beta", "acceptance_threshold", "weighting", "n_target", "n_rule", "scope", "aggregate")
    if len({(record.n, *(repr(record.params.get(name)) for name in names)) for record in records}) > 1:
        raise InvalidRequestError(
            "records: of several settings; allowed: records of one (method, beta, u or weighting, n, n_target, scope)"
        )
    first, params = records[0], records[0].params
    if params.get("n_rule") is not None:  # a grid draws from n candidates, whatever their rewards are
        raise InvalidRequestError(f"records: n_rule {params['n_rule']['name']}; allowed: none")
    method = "rsd" if params.get("method") == "rsd" else "gsi"
    proposals = read_draft_proposals(records, needs_ratios=method == "gsi")
    return _Recorded(
        proposals=tuple(proposals),
        method=method,
        setting=_read_setting(first),
        n=first.n,
        n_target=params.get("n_target"),
        num_parameters=list_parameter_counts(first),
        num_left_out=sum(1 if is_of_responses(one) else len(one.steps) for one in records) - len(proposals),
    )


def _read_setting(record: RecordedJob) -> Setting | None:
    """Return the setting of gsi or of rsd's binary weighting; None for other methods, which make no such test."""
    params = record.params
    if params.get("preset", "paper") != "paper":
        raise InvalidRequestError(
            f"records: preset {params['preset']}; allowed: paper, whose u is on the reward's scale"
        )
    if params.get("method") == "gsi":
        return Setting(float(params["beta"]), float(params["acceptance_threshold"]), record.n)
    if params.get("method") == "rsd":
        weighting = params["weighting"]
        if weighting["name"] != "binary":
            raise InvalidRequestError(f"records: weighting {weighting['name']} has no threshold; allowed: binary")
        return Setting(float(params["beta"]), float(weighting["delta"]), record.n)
    return None


def _check_grid(betas: Sequence[float], thresholds: Sequence[float], ns: Sequence[int], recorded_n: int) -> None:
    for beta in betas:
        if not (beta > 0 and math.isfinite(beta)):
            raise InvalidRequestError(f"betas: {beta} is not allowed; allowed: finite numbers above 0")
    for threshold in thresholds:
        if not math.isfinite(threshold):
            raise InvalidRequestError(f"thresholds: {threshold} is not allowed; allowed: finite numbers")
    for n in ns:
        if not 1 <= n <= recorded_n:
            raise InvalidRequestError(
                f"ns: {n} is not allowed; allowed: whole numbers from 1 to {recorded_n}, the candidates on record"
            )


def _weigh_proposals(recorded: _Recorded, beta: float, n: int) -> list[_WeighedProposal]:
    """Return each proposal under one beta with its first n candidates."""
    num_target = recorded.n_target or n
    of_target = recorded.target_figures_from is Source.TARGET
    resampled = [
        _average_selected((one.target_rewards if of_target else one.rewards)[:num_target], beta)
        for one in recorded.proposals
    ]
    elsewhere = _average([reward for reward in resampled if reward is not None])
    return [
        _weigh_proposal(
            one, beta, n, elsewhere if reward is None else reward, is_imputed=reward is None or not of_target
        )
        for one, reward in zip(recorded.proposals, resampled, strict=True)
    ]


def _weigh_proposal(
    proposal: DraftProposal, beta: float, n: int, target_reward: float, *, is_imputed: bool
) -> _WeighedProposal:
    pairs = zip(proposal.rewards[:n], proposal.log_ratios[:n], strict=True)
    tilted = [tilted_reward(reward, ratio, beta) for reward, ratio in pairs]
    chosen = select(tilted, beta, proposal.uniform)
    return _WeighedProposal(proposal, tilted, probabilities(tilted, beta), chosen, target_reward, is_imputed)


def _average_selected(rewards: Sequence[float], beta: float) -> float | None:
    """Return the expected reward of soft best-of-n; None if no candidate has a number for its reward."""
    ranked = [rankable(reward) for reward in rewards]
    if not ranked or max(ranked) == -math.inf:
        return None
    return math.fsum(p * r for p, r in zip(probabilities(ranked, beta), ranked, strict=True) if p > 0)


def _compute_calibration_row(
    setting: Setting, weighed: Sequence[_WeighedProposal], recorded: _Recorded
) -> CalibrationRow:
    u, n = setting.acceptance_threshold, setting.n
    acceptance = [one.compute_acceptance(u) for one in weighed]
    problems = [one.proposal.problem for one in weighed]
    firsts = [i for i, one in enumerate(weighed) if one.proposal.is_first]
    size = _average([compute_effective_sample_size(one.tilted, setting.beta) for one in weighed])
    accepted = bootstrap_mean(acceptance, problems)
    draft_tokens = _average([sum(one.proposal.num_tokens[:n]) for one in weighed])
    target_tokens = (1 - accepted.value) * (recorded.n_target or n) * _average_target_length(recorded)
    scored = draft_tokens if recorded.method == "gsi" else 0.0
    tokens = {"draft": draft_tokens, "target": scored + target_tokens, "prm": draft_tokens + target_tokens}
    return CalibrationRow(
        setting=setting,
        is_recorded=setting == recorded.setting,
        num_steps=len(weighed),
        acceptance=accepted,
        first_step_acceptance=bootstrap_mean([acceptance[i] for i in firsts], [problems[i] for i in firsts]),
        effective_sample_size=size,
        effective_share=size / n,
        changed_share=None if recorded.setting is None else _average([one.is_changed(u) for one in weighed]),
        draft_tokens=draft_tokens,
        scored_tokens=scored,
        target_tokens=target_tokens,
        flops=estimate_flops(tokens, recorded.num_parameters),
        reward=_average([one.compute_reward(u) for one in weighed]),
        imputed_share=_compute_imputed_share(weighed, acceptance),
    )


def _compute_imputed_share(weighed: Sequence[_WeighedProposal], acceptance: Sequence[float]) -> float:
    """Return which share of the expected resamplings has no target proposal of its own; 0 without resamplings."""
    resampled = [1 - accepted for accepted in acceptance]
    imputed = math.fsum(part for part, one in zip(resampled, weighed, strict=True) if one.is_imputed)
    return imputed / math.fsum(resampled) if imputed else 0.0


def _average_target_length(recorded: _Recorded) -> float:
    of_target = recorded.target_figures_from is Source.TARGET
    lengths = [one.target_num_tokens if of_target else one.num_tokens for one in recorded.proposals]
    return _average([length for of_proposal in lengths for length in of_proposal])


def _average(values: Sequence[float]) -> float:
    """Return the mean, or nan of nothing."""
    return math.fsum(values) / len(values) if values else math.nan
