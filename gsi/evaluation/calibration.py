"""Which beta, u and n: what other settings would have done with the candidates that are on record, without a model.

A draft proposal of method ``gsi`` keeps the reward and both likelihoods of every candidate. That is all that lines 4
to 6 of Algorithm 1 (GSI paper) read, so they can be computed again for any beta and u, and for any n up to the
recorded one. What is sound:

- Behind a given prefix the candidates are i.i.d. draws of the draft, whatever beta and u are, and so are the first m of
  them. The acceptance of a step is computed exactly given its candidates (the selection is averaged out, not drawn).
- All jobs begin with the prompt, so figures of the first step are unbiased for every setting.
- Which prefixes later steps stand behind depends on the setting that wrote them. Figures over all steps are therefore
  for the recorded prefixes: right for the recorded setting, an approximation for others, worse the further away.
- Accuracy cannot be computed so. Choose a few settings (``worth_running``), run them, and choose by what was measured
  (``recommend``).

Costs are means a step. Steps are weighed equally; intervals are of 95 % and take the problem as the unit, since steps
of one problem are alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from gsi.algorithm.candidates import Source
from gsi.algorithm.methods.gsi import is_accepted
from gsi.algorithm.soft_best_of_n import probabilities, select
from gsi.algorithm.tilting import rankable, tilted_reward
from gsi.errors import InvalidRequestError
from gsi.evaluation.draft_proposals import DraftedStep, Interval, drafted_steps, estimate_mean
from gsi.evaluation.records import RecordedJob

PAPER_BETA, PAPER_THRESHOLD = 20.0, 0.5  # GSI paper, section 4
MAX_WORTH_RUNNING = 6
DEFAULT_BETAS = (5.0, 10.0, 20.0, 40.0, 80.0)
DEFAULT_THRESHOLDS = (-0.5, 0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What is calibrated. Candidates of a resampling are the records' ``n_target``, or else n."""

    beta: float
    acceptance_threshold: float
    n: int


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """What a setting would do, a step. ``reward`` is the expected PRM reward of the kept step (see ``calibrate``)."""

    setting: Setting
    is_recorded: bool
    num_steps: int
    acceptance: Interval  # share of steps, at the recorded prefixes
    first_step_acceptance: Interval
    effective_sample_size: float  # 1 / sum of squared weights; 0 where no candidate has a weight
    effective_share: float  # of n
    changed_share: float | None  # of steps whose candidate or outcome would differ; None for records not of method gsi
    draft_tokens: float  # written by the draft, read by target and PRM
    target_tokens: float  # written by the target, read by the PRM
    flops: float | None  # None where a model's number of parameters is unknown
    reward: float

    @property
    def scored_tokens(self) -> float:
        """Tokens that the target reads to score them."""
        return self.draft_tokens

    @property
    def prm_tokens(self) -> float:
        """Tokens that the PRM reads to rate them."""
        return self.draft_tokens + self.target_tokens

    @property
    def cost(self) -> float:
        """FLOPs, or where these are unknown the tokens of all three roles, each counted alike."""
        tokens = self.draft_tokens + self.scored_tokens + self.target_tokens + self.prm_tokens
        return tokens if self.flops is None else self.flops


@dataclass(frozen=True, slots=True)
class Calibration:
    """One row a setting, and what the rows rest on."""

    rows: tuple[CalibrationRow, ...]
    num_problems: int
    num_left_out: int  # steps without a draft proposal that has every reward and both likelihoods of n candidates
    target_figures_from: Source  # draft: the records hold no proposal of the target, so its figures are the draft's


@dataclass(frozen=True, slots=True)
class Measured:
    """A setting that was run: the mean accuracy of each problem over its seeds, and what it cost (in any one unit)."""

    setting: Setting
    accuracy_by_problem: Mapping[str, float]
    cost: float
    acceptance: float

    @property
    def accuracy(self) -> float:
        return sum(self.accuracy_by_problem.values()) / len(self.accuracy_by_problem)

    @property
    def accuracy_half_width(self) -> float:
        """Half of the 95 % interval (Student's t over problems); inf for a single problem."""
        return _half_width(list(self.accuracy_by_problem.values()))


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Everything that is read of the records, once."""

    steps: tuple[DraftedStep, ...]
    setting: Setting | None  # None for records of another method than gsi: they were not made with a test
    n: int
    n_target: int | None
    num_parameters: Mapping[str, int | None]
    num_left_out: int

    @property
    def target_figures_from(self) -> Source:
        return Source.TARGET if any(step.target_rewards for step in self.steps) else Source.DRAFT


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A step under one beta and n: line 4 and the law of line 5, and what a resampling is worth."""

    step: DraftedStep
    tilted: Sequence[float]
    law: Sequence[float]
    chosen: int
    target_reward: float

    def acceptance(self, u: float) -> float:
        accepted = math.fsum(p for p, tilted in zip(self.law, self.tilted, strict=True) if is_accepted(tilted, u))
        return min(accepted, 1.0)  # rounding may pass 1 by a hair

    def reward(self, u: float) -> float:
        """Return the expected PRM reward of the kept step; a candidate that cannot be selected has no part in it."""
        parts = zip(self.law, self.tilted, self.step.rewards, strict=False)  # of n candidates, the first m
        accepted = math.fsum(p * r for p, tilted, r in parts if p > 0 and is_accepted(tilted, u))
        return accepted + (1 - self.acceptance(u)) * self.target_reward

    def is_changed(self, u: float) -> bool:
        as_recorded = (self.step.selected, self.step.is_accepted)
        return (self.chosen, is_accepted(self.tilted[self.chosen], u)) != as_recorded


def effective_sample_size(tilted: Sequence[float], beta: float) -> float:
    """Return 1 / sum of squared selection weights: n for equal ones, 1 where one dominates, 0 where all are -inf.

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
    """Return the figures of every (beta, u, n), ascending, and of the recorded and the paper's setting besides.

    ``records`` are of one setting. ``ns`` may not exceed the recorded n, which is also the default: a smaller one
    takes the first candidates of each proposal.

    The tokens of a resampling are ``n_target`` times the mean length of the target's recorded candidates; its reward is
    the soft best-of-n mean of the step's own target proposal, or of all target proposals where the step has none (these
    stand behind the prefixes that were resampled, so it is an approximation). Where the target wrote nothing at all,
    both are the draft's, and ``target_figures_from`` says so. FLOPs are two a parameter and token; reading the prefix
    and the work of attention are not counted. Raises InvalidRequestError.
    """
    recorded = _read(records)
    ns = ns or (recorded.n,)
    _check(betas, thresholds, ns, recorded.n)
    paper = Setting(PAPER_BETA, PAPER_THRESHOLD, recorded.n)
    settings = {Setting(*values) for values in product(betas, thresholds, ns)} | {paper}
    settings |= {recorded.setting} if recorded.setting is not None else set()
    rows: list[CalibrationRow] = []
    for beta, n in sorted({(setting.beta, setting.n) for setting in settings}):
        weighed = _weigh(recorded, beta, n)
        rows += [_figures(s, weighed, recorded) for s in settings if (s.beta, s.n) == (beta, n)]
    return Calibration(
        rows=tuple(sorted(rows, key=lambda row: row.setting)),
        num_problems=len({step.problem for step in recorded.steps}),
        num_left_out=recorded.num_left_out,
        target_figures_from=recorded.target_figures_from,
    )


def worth_running(grid: Sequence[CalibrationRow], k: int = MAX_WORTH_RUNNING) -> list[CalibrationRow]:
    """Return at most k settings to run for real, in order of cost.

    The recorded and the paper's setting are always among them. The others are Pareto choices between the expected cost
    and the expected PRM reward of the kept step (none costs less and promises as much), spread evenly over the range of
    cost. The reward is a proxy, taken because it is what the method maximises and what the records hold of every step:
    the PRM's opinion at the recorded prefixes. A large beta pleases the PRM at the expense of the target's likelihood,
    so the proxy says what to run, not what to use. Raises InvalidRequestError for k outside 2 to 6.
    """
    if not 2 <= k <= MAX_WORTH_RUNNING:
        raise InvalidRequestError(f"k: {k} is not allowed; allowed: a whole number from 2 to {MAX_WORTH_RUNNING}")
    by_cost = sorted(grid, key=lambda row: (row.cost, -row.reward, row.setting))
    most_candidates = max((row.setting.n for row in grid), default=0)
    paper = Setting(PAPER_BETA, PAPER_THRESHOLD, most_candidates)
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


def accuracy_lost(measured: Measured, best: Measured) -> Interval:
    """Return by how much ``best`` is more accurate, problem by problem, with a 95 % interval (Student's t).

    Raises InvalidRequestError unless both were measured on the same problems.
    """
    if measured.accuracy_by_problem.keys() != best.accuracy_by_problem.keys() or not best.accuracy_by_problem:
        raise InvalidRequestError(
            "measured: settings with different problems; allowed: the same problems for every setting, at least one"
        )
    lost = [best.accuracy_by_problem[problem] - accuracy for problem, accuracy in measured.accuracy_by_problem.items()]
    mean, half_width = math.fsum(lost) / len(lost), _half_width(lost)
    return Interval(mean, mean - half_width, mean + half_width)


def recommend(measured: Sequence[Measured]) -> Measured:
    """Return the cheapest setting that is not shown to be less accurate than the most accurate one.

    "Shown" means that the paired 95 % interval of ``accuracy_lost`` lies above 0; equal costs go to the more accurate.
    Few problems show little, and then the cheapest is returned: read ``accuracy_lost`` too, whose upper end says how
    much may be lost. Many settings compared at once are not corrected for. Raises InvalidRequestError for none.
    """
    if not measured:
        raise InvalidRequestError("measured: nothing was measured; allowed: at least one setting")
    best = max(measured, key=lambda m: (m.accuracy, -m.cost))
    good = [candidate for candidate in measured if accuracy_lost(candidate, best).low <= 0]
    return min(good, key=lambda m: (m.cost, -m.accuracy, m.setting))


def to_markdown(rows: Sequence[CalibrationRow]) -> str:
    """Return a table of the figures; the recorded setting is marked with *."""
    heads = "beta|u|n|acceptance|first step|ESS|ESS / n|changed|draft tokens|target tokens|PRM tokens|FLOPs|reward"
    lines = [_row(heads.split("|")), _row(["--:"] * len(heads.split("|")))]
    for row in rows:
        beta, u, n = row.setting.beta, row.setting.acceptance_threshold, row.setting.n
        cells = [f"{beta:g}{'*' if row.is_recorded else ''}", f"{u:g}", str(n)]
        cells += [str(row.acceptance), str(row.first_step_acceptance)]
        cells += [f"{row.effective_sample_size:.1f}", f"{row.effective_share:.2f}"]
        cells += ["-" if row.changed_share is None else f"{row.changed_share:.3f}"]
        cells += [f"{row.draft_tokens:.1f}", f"{row.target_tokens:.1f}", f"{row.prm_tokens:.1f}"]
        cells += ["-" if row.flops is None else f"{row.flops:.3g}", f"{row.reward:.3f}"]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _read(records: Sequence[RecordedJob]) -> _Recorded:
    steps = drafted_steps(records)
    if not steps:
        raise InvalidRequestError(
            "records: no draft proposal has every reward and both likelihoods; allowed: records of method gsi"
        )
    names = ("method", "beta", "acceptance_threshold", "n_target")
    if len({(record.n, *(record.params.get(name) for name in names)) for record in records}) > 1:
        raise InvalidRequestError(
            "records: of several settings; allowed: records of one (method, beta, u, n, n_target)"
        )
    first, params = records[0], records[0].params
    is_gsi = params.get("method") == "gsi"
    roles = ("draft", "target", "prm")
    return _Recorded(
        steps=tuple(steps),
        setting=Setting(float(params["beta"]), float(params["acceptance_threshold"]), first.n) if is_gsi else None,
        n=first.n,
        n_target=params.get("n_target"),
        num_parameters={r: first.models[r].num_parameters if r in first.models else None for r in roles},
        num_left_out=sum(len(record.steps) for record in records) - len(steps),
    )


def _check(betas: Sequence[float], thresholds: Sequence[float], ns: Sequence[int], recorded_n: int) -> None:
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


def _weigh(recorded: _Recorded, beta: float, n: int) -> list[_Weighed]:
    """Return each step under one beta with its first n candidates."""
    num_target = recorded.n_target or n
    of_target = recorded.target_figures_from is Source.TARGET
    resampled = [
        _soft_mean((step.target_rewards if of_target else step.rewards)[:num_target], beta) for step in recorded.steps
    ]
    known = [reward for reward in resampled if reward is not None]
    elsewhere = _mean(known)
    return [
        _weighed(step, beta, n, elsewhere if reward is None else reward)
        for step, reward in zip(recorded.steps, resampled, strict=True)
    ]


def _weighed(step: DraftedStep, beta: float, n: int, target_reward: float) -> _Weighed:
    pairs = zip(step.rewards[:n], step.log_ratios[:n], strict=True)
    tilted = [tilted_reward(reward, ratio, beta) for reward, ratio in pairs]
    return _Weighed(step, tilted, probabilities(tilted, beta), select(tilted, beta, step.uniform), target_reward)


def _soft_mean(rewards: Sequence[float], beta: float) -> float | None:
    """Return the expected reward of soft best-of-n; None without candidates, or where none has a reward to speak of."""
    ranked = [rankable(reward) for reward in rewards]
    if not ranked or max(ranked) == -math.inf:
        return None
    return math.fsum(p * r for p, r in zip(probabilities(ranked, beta), ranked, strict=True) if p > 0)


def _figures(setting: Setting, weighed: Sequence[_Weighed], recorded: _Recorded) -> CalibrationRow:
    u, n = setting.acceptance_threshold, setting.n
    acceptance = [one.acceptance(u) for one in weighed]
    problems = [one.step.problem for one in weighed]
    firsts = [i for i, one in enumerate(weighed) if one.step.is_first]
    sizes = [effective_sample_size(one.tilted, setting.beta) for one in weighed]
    accepted = estimate_mean(acceptance, problems)
    draft_tokens = _mean([sum(one.step.num_tokens[:n]) for one in weighed])
    target_tokens = (1 - accepted.value) * (recorded.n_target or n) * _mean_target_length(recorded)
    return CalibrationRow(
        setting=setting,
        is_recorded=setting == recorded.setting,
        num_steps=len(weighed),
        acceptance=accepted,
        first_step_acceptance=estimate_mean([acceptance[i] for i in firsts], [problems[i] for i in firsts]),
        effective_sample_size=_mean(sizes),
        effective_share=_mean(sizes) / n,
        changed_share=None if recorded.setting is None else _mean([one.is_changed(u) for one in weighed]),
        draft_tokens=draft_tokens,
        target_tokens=target_tokens,
        flops=_flops(draft_tokens, target_tokens, recorded.num_parameters),
        reward=_mean([one.reward(u) for one in weighed]),
    )


def _mean_target_length(recorded: _Recorded) -> float:
    of_target = recorded.target_figures_from is Source.TARGET
    return _mean([t for step in recorded.steps for t in (step.target_num_tokens if of_target else step.num_tokens)])


def _flops(draft_tokens: float, target_tokens: float, num_parameters: Mapping[str, int | None]) -> float | None:
    """Return 2 N FLOPs a token (Kaplan et al., *Scaling Laws for Neural Language Models*, 2020, section 2.1)."""
    draft, target, prm = (num_parameters[role] for role in ("draft", "target", "prm"))
    if draft is None or target is None or prm is None:
        return None
    return 2.0 * (draft * draft_tokens + (target + prm) * (draft_tokens + target_tokens))


def _mean(values: Sequence[float]) -> float:
    """Return the mean, or nan of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def _half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean by Student's t; inf for a single value."""
    if len(values) < 2:
        return math.inf
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
