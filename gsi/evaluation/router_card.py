"""The model card of a router: what it is for, what it reads, how well it predicts, and where it does not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gsi.algorithm.router import FEATURES
from gsi.evaluation.estimates import Estimate
from gsi.evaluation.router_examples import ORACLE
from gsi.evaluation.router_training import NUM_FOLDS, Quality
from gsi.evaluation.tables import Column, write_table
from gsi.router_file import ROUTER_FILE, RouterFile

SHOWN_DIGITS = 12  # of a fingerprint


def write_router(folder: Path, router: RouterFile, quality: Quality) -> None:
    """Write the router and its card into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ROUTER_FILE).write_text(router.model_dump_json(indent=2) + "\n")
    (folder / "README.md").write_text(write_card(router, quality))


def write_card(router: RouterFile, quality: Quality) -> str:
    """Return the card as Markdown."""
    return "\n\n".join(_list_paragraphs(router, quality)) + "\n"


def _list_paragraphs(router: RouterFile, quality: Quality) -> Iterator[str]:
    yield "# A router of Arbitrage"
    yield (
        "A logistic regression of one question: is the reward of the target's step higher than that of the draft's by "
        f"more than {router.margin:g}? It reads what the coordinator knows of the draft's step before the target is "
        "asked, and no text. In method `arbitrage` the target writes where the probability is above `router_threshold`."
    )
    yield "**For these models alone**; a coordinator refuses jobs of `arbitrage` on others."
    yield _table(("role", "model", "fingerprint"), _list_models(router))
    yield _describe_data(router, quality)
    yield (
        f"**Quality**, on steps of problems that it has not learned from ({NUM_FOLDS} folds of problems; 95 % "
        "intervals of a bootstrap over problems):"
    )
    yield _table(("figure", "value"), _list_figures(quality))
    yield "**Calibration**, in bins of as many steps: the mean probability, and the share of steps that were better."
    yield _table(("predicted", "observed"), [(f"{a:.3f}", f"{b:.3f}") for a, b in quality.calibration])
    yield (
        "**What a threshold buys**: the share of steps that goes to the target, the mean reward of the steps that are "
        "kept, and the mean reward if as many steps went to the target at random. The draft's own steps have "
        f"{quality.draft_reward:.3f}, the target's {quality.target_reward:.3f}, the oracle's "
        f"{quality.oracle_reward:.3f}."
    )
    yield _table(("router_threshold", "steps to the target", "reward", "at random"), _list_thresholds(quality))
    yield "**Weights**, of standardised features: a positive weight speaks for the target."
    yield _table(("feature", "weight", "what it is"), _list_weights(router))
    yield (
        "**Limits.** It knows steps of the problems and of the settings above. After steps that the router itself has "
        f"chosen, prefixes differ from those of `{ORACLE}`, in which every step is the better of two. A reward is what "
        "the PRM says, not what is right."
    )


def _describe_data(router: RouterFile, quality: Quality) -> str:
    settings = "; ".join(
        f"{name} {', '.join(map(str, values))}"
        for name, values in router.data.items()
        if isinstance(values, Sequence) and values
    )
    return (
        f"**Data.** {quality.num_examples:,} steps of {quality.num_problems} problems, of which draft and target each "
        f"wrote one ({settings}). Made by `gsi eval --methods {ORACLE}` and `gsi router train`."
    )


def _list_figures(quality: Quality) -> list[tuple[str, ...]]:
    return [
        ("steps in which the target's is better by more than the margin", f"{quality.base_rate:.1%}"),
        ("AUC", _show(quality.auc)),
        ("AUC of the draft's reward alone", _show(quality.auc_of_reward)),
        ("AUC gained over the reward", _show(quality.auc_gain)),
        ("Brier score", f"{quality.brier:.4f}"),
        ("Brier score of the share in the first row", f"{quality.brier_of_base_rate:.4f}"),
    ]


def _list_models(router: RouterFile) -> list[tuple[str, ...]]:
    return [
        (role, model.model, model.checkpoint_fingerprint[:SHOWN_DIGITS] or "unknown")
        for role, model in router.models.items()
    ]


def _list_thresholds(quality: Quality) -> list[tuple[str, ...]]:
    return [
        (f"{each.threshold:g}", f"{each.target_share:.1%}", f"{each.reward:.3f}", f"{each.random_reward:.3f}")
        for each in quality.routed
    ]


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _list_weights(router: RouterFile) -> list[tuple[str, ...]]:
    weights = sorted(zip(router.features, router.weights, strict=True), key=lambda pair: -abs(pair[1]))
    return [(f"`{name}`", f"{weight:+.2f}", FEATURES[name]) for name, weight in weights]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = zip(*rows, strict=True)
    columns = zip(titles, cells, strict=True)
    return write_table([Column(title, own, is_number=False) for title, own in columns])
