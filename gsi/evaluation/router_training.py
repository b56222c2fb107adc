"""``gsi router train``: a logistic regression of "the target's step is better", and how well it predicts.

Every figure of quality is out of sample: the problems are split into folds, and the steps of a fold are predicted by
what the other folds have taught. Intervals are of a bootstrap over problems.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from gsi.algorithm.router import FEATURES
from gsi.errors import InvalidRequestError
from gsi.evaluation.estimates import NUM_RESAMPLES, Estimate
from gsi.evaluation.router_examples import Example, Examples
from gsi.router_file import RouterFile, RouterModel

Floats = NDArray[np.float64]

NUM_FOLDS = 5
NUM_BINS = 5  # of the calibration, each with as many steps
LEAST_EXAMPLES = 20  # of each kind: with fewer no fold can be trusted to have both
DIGITS = 6
MAX_ITERATIONS = 1000
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class Routed:
    """What a threshold does to steps that the router has not learned from.

    ``target_share``: of the steps. ``reward``: mean of the kept steps. ``random_reward``: the same where as many steps
    go to the target, but at random.
    """

    threshold: float
    target_share: float
    reward: float
    random_reward: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How well steps of other problems are predicted. ``calibration``: (predicted, observed) share for each bin."""

    num_examples: int
    num_problems: int
    base_rate: float  # share of steps whose target's step is better by more than the margin
    auc: Estimate
    auc_of_reward: Estimate  # of the draft's reward alone
    auc_gain: Estimate  # of the router over the reward, on the same steps
    brier: float
    brier_of_base_rate: float
    calibration: tuple[tuple[float, float], ...]
    draft_reward: float  # mean reward of the draft's steps
    target_reward: float
    oracle_reward: float  # of the better of the two
    routed: tuple[Routed, ...]


def train_router(found: Examples, margin: float) -> tuple[RouterFile, Quality]:
    """Learn whether the target's reward is higher by more than ``margin``; return the router and its quality.

    Raises InvalidRequestError if there are too few steps of a kind, or too few problems.
    """
    examples = found.examples
    is_better = np.array([example.advantage > margin for example in examples])
    problems = np.unique([example.problem for example in examples], return_inverse=True)[1]
    _refuse_few(is_better, int(problems.max()) + 1)
    values = np.array([[example.features[name] for name in FEATURES] for example in examples])
    used = np.flatnonzero(values.std(axis=0) > 0)  # what never varies teaches nothing
    values = values[:, used]
    predicted = cross_val_predict(
        make_model(), values, is_better, groups=problems, cv=GroupKFold(NUM_FOLDS), method="predict_proba"
    )[:, 1]
    quality = measure_quality(examples, problems, is_better, predicted)
    scaler, regression = make_model().fit(values, is_better).named_steps.values()
    router = RouterFile(
        features=tuple(np.array(tuple(FEATURES))[used].tolist()),
        means=_round(scaler.mean_),
        scales=_round(scaler.scale_),
        weights=_round(regression.coef_[0]),
        intercept=_round(regression.intercept_)[0],
        margin=margin,
        models={
            role: RouterModel(model=shorten_path(model.model), checkpoint_fingerprint=model.checkpoint_fingerprint)
            for role, model in found.models.items()
        },
        data={
            "steps": quality.num_examples,
            "problems": quality.num_problems,
            "methods": list(found.methods),
            **{name: list(seen) for name, seen in found.settings.items()},
        },
        quality=asdict(quality),
    )
    return router, quality


def shorten_path(model: str) -> str:
    """Return the name of a folder without the place where it lies on this machine; other names as they are."""
    return PurePath(model).name if PurePath(model).is_absolute() else model


def make_model() -> Pipeline:
    """Return what is fitted: standardised features, and a logistic regression with a unit ridge on their weights."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=MAX_ITERATIONS))


def measure_quality(
    examples: Sequence[Example], problems: NDArray[np.intp], is_better: NDArray[np.bool_], predicted: Floats
) -> Quality:
    """Return the figures; ``problems`` numbers the examples' problems, ``predicted`` is out of sample."""
    by_reward = -np.array([example.features["reward"] for example in examples])
    drafted = -by_reward
    advantage = np.array([example.advantage for example in examples])
    aucs = _bootstrap_aucs(problems, is_better, predicted, by_reward)
    observed, expected = calibration_curve(is_better, predicted, n_bins=NUM_BINS, strategy="quantile")
    base_rate = float(is_better.mean())
    return Quality(
        num_examples=len(examples),
        num_problems=int(problems.max()) + 1,
        base_rate=base_rate,
        auc=aucs[0],
        auc_of_reward=aucs[1],
        auc_gain=aucs[2],
        brier=float(brier_score_loss(is_better, predicted)),
        brier_of_base_rate=base_rate * (1 - base_rate),
        calibration=tuple(zip(expected.tolist(), observed.tolist(), strict=True)),
        draft_reward=float(drafted.mean()),
        target_reward=float((drafted + advantage).mean()),
        oracle_reward=float((drafted + np.maximum(advantage, 0)).mean()),
        routed=tuple(_route(threshold, predicted, drafted, advantage) for threshold in THRESHOLDS),
    )


def _route(threshold: float, predicted: Floats, drafted: Floats, advantage: Floats) -> Routed:
    to_target = predicted > threshold
    share = float(to_target.mean())
    return Routed(
        threshold=threshold,
        target_share=share,
        reward=float((drafted + to_target * advantage).mean()),
        random_reward=float(drafted.mean() + share * advantage.mean()),
    )


def _bootstrap_aucs(
    problems: NDArray[np.intp], is_better: NDArray[np.bool_], one: Floats, other: Floats
) -> tuple[Estimate, Estimate, Estimate]:
    """Return the AUC of two predictions and their difference, with percentile intervals over problems."""
    rng = np.random.default_rng(0)
    steps_of = [np.flatnonzero(problems == problem) for problem in range(problems.max() + 1)]
    found: list[tuple[float, float]] = []
    for _ in range(NUM_RESAMPLES):
        drawn = np.concatenate([steps_of[problem] for problem in rng.integers(len(steps_of), size=len(steps_of))])
        if 0 < is_better[drawn].sum() < len(drawn):
            found.append((_auc(is_better[drawn], one[drawn]), _auc(is_better[drawn], other[drawn])))
    resampled = np.array(found).T
    exact = (_auc(is_better, one), _auc(is_better, other))
    rows = (resampled[0], resampled[1], resampled[0] - resampled[1])
    values = (*exact, exact[0] - exact[1])
    ends = [np.quantile(row, (0.025, 0.975)) for row in rows]
    both = [Estimate(value, float(low), float(high)) for value, (low, high) in zip(values, ends, strict=True)]
    return both[0], both[1], both[2]


def _auc(is_better: NDArray[np.bool_], predicted: Floats) -> float:
    """Return the share of pairs in order (Mann and Whitney's U); scikit-learn's checks take longer than the ranks."""
    num_better = int(is_better.sum())
    num_pairs = num_better * (len(is_better) - num_better)
    return float((rankdata(predicted)[is_better].sum() - num_better * (num_better + 1) / 2) / num_pairs)


def _refuse_few(is_better: NDArray[np.bool_], num_problems: int) -> None:
    better, others = int(is_better.sum()), int((~is_better).sum())
    if min(better, others) < LEAST_EXAMPLES or num_problems < 2 * NUM_FOLDS:
        raise InvalidRequestError(
            f"records: in {better} steps the target's is better by more than the margin, in {others} it is not, of "
            f"{num_problems} problems; allowed: at least {LEAST_EXAMPLES} of each, and {2 * NUM_FOLDS} problems"
        )


def _round(numbers: Floats) -> tuple[float, ...]:
    return tuple(float(f"{number:.{DIGITS}g}") for number in numbers)
