"""What ``gsi plan`` is told of methods: by options, by the files of ``gsi calibrate``, or by the paper."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsi.algorithm.params import Params
from gsi.errors import InvalidRequestError
from gsi.planning.calls import CALLS, SPECULATIVE, Calls, EarlyEnds
from gsi.planning.published import TABLE_2
from gsi.planning.quantities import OPTIONS, Given, Quantity
from gsi.suggestions import list_names

CALIBRATION, METHODS = "calibration.json", "methods.json"
PAPER = "the paper"
ACCEPTANCES_OF_PAPER = {"gsi": TABLE_2[0].acceptance, "rsd": TABLE_2[1].acceptance}  # n = 16


@dataclass(frozen=True, slots=True)
class Source:
    """What is known, and from where. What is added later counts less than what is there."""

    values: dict[Quantity, dict[str, float]] = field(default_factory=dict)
    origins: dict[Quantity, dict[str, str]] = field(default_factory=dict)

    @property
    def others(self) -> Given:
        """Return the quantities besides the acceptance."""
        return {quantity: known for quantity, known in self.values.items() if quantity is not Quantity.ACCEPTANCE}

    def add_speculation(self, quantities: Mapping[Quantity, float]) -> None:
        """Add what is known of the target's engine, for all methods that need it; they accept as without it."""
        labels = [label for label, calls in CALLS.items() if calls.is_speculative]
        for quantity, value in quantities.items():
            self.add({quantity: dict.fromkeys(labels, value)}, OPTIONS[quantity])
        for quantity, origins in self.origins.items():
            for label in labels:
                plain = label.removesuffix(f":{SPECULATIVE}")
                if plain in origins:
                    self.add({quantity: {label: self.values[quantity][plain]}}, origins[plain])

    def add(self, given: Given, origin: str) -> None:
        """Add what is not known yet."""
        for quantity, of_labels in given.items():
            for label, value in of_labels.items():
                if label not in self.values.setdefault(quantity, {}):
                    self.values[quantity][label] = value
                    self.origins.setdefault(quantity, {})[label] = origin


def read_options(options: Mapping[Quantity, Sequence[str]]) -> Given:
    """Return the quantities that options ``METHOD=NUMBER`` give. Raises InvalidRequestError."""
    return {quantity: dict(_read_option(quantity, text) for text in texts) for quantity, texts in options.items()}


def _read_option(quantity: Quantity, text: str) -> tuple[str, float]:
    option, is_share = OPTIONS[quantity], quantity is not Quantity.MEAN_N
    own_option = ACCEPTANCES_OF_PAPER if quantity is Quantity.ACCEPTANCE else ()
    allowed = [label for label, calls in CALLS.items() if quantity in calls.reads and label not in own_option]
    label, _, number = text.partition("=")
    if label not in allowed:
        raise InvalidRequestError(f"{option}: {label} is not allowed; allowed: {list_names(label, allowed)}")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 <= value <= (1 if is_share else math.inf) or math.isinf(value):
        wanted = "SHARE, a number from 0 to 1" if is_share else "N, a number from 1 to n"
        raise InvalidRequestError(f"{option}: {text} is not allowed; allowed: {label}={wanted}")
    return label, value


def read_calibration(path: Path, n: int) -> list[tuple[str, Given]]:
    """Return what a folder or a file of ``gsi calibrate`` tells, each file's name first; what counts more stands first.

    Raises InvalidRequestError if it tells nothing.
    """
    files = [file for file in (path / CALIBRATION, path / METHODS) if file.is_file()] if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InvalidRequestError(
            f"--calibration: {path} has no {CALIBRATION} and no {METHODS}; allowed: a folder of gsi calibrate, or one "
            "of these files"
        )
    found = [(file.name, _read_file(file, n)) for file in files]
    if not any(of_labels for _, given in found for of_labels in given.values()):
        raise InvalidRequestError(_explain_nothing(files, n))
    return found


def _explain_nothing(files: Sequence[Path], n: int) -> str:
    names = " and ".join(str(file) for file in files)
    return (
        f"--calibration: {names} recommends nothing and has no method at n = {n} that can be planned by it; "
        "allowed: a folder where gsi calibrate ran settings (--run), or compared methods (--methods) at this n"
    )


def _read_file(file: Path, n: int) -> Given:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _read_choices(content, n) if "choices" in content else _read_recommended(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InvalidRequestError(
            f"--calibration: {file} is not a file of gsi calibrate; allowed: {CALIBRATION} or {METHODS}"
        ) from None


def _read_recommended(content: Mapping[str, Any]) -> Given:
    """Return the acceptance rate of the setting that ``gsi calibrate`` recommends, if any."""
    recommended = content["recommended"]
    if not recommended:
        return {}
    return {Quantity.ACCEPTANCE: {content.get("method", "gsi"): _check_share(recommended["acceptance"])}}


def _read_choices(content: Mapping[str, Any], n: int) -> Given:
    """Return what the methods of ``gsi calibrate --methods`` were measured to do at n.

    Of several settings of a method the recommended one counts, else the most accurate.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for one in sorted(content["choices"], key=lambda one: (one != content["recommended"], -one["accuracy"])):
        label = one["plan"]["calls"]
        if label in CALLS and (one["n"] == n or CALLS[label].has_one_row):
            best.setdefault(label, one)
    given: dict[Quantity, dict[str, float]] = {}
    for label, one in best.items():
        for quantity, value in _measure(label, one, best, n).items():
            if value is not None and quantity in CALLS[label].reads:
                given.setdefault(quantity, {})[label] = value
    return given


def _measure(
    label: str, one: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], n: int
) -> Mapping[Quantity, float | None]:
    plan = one["plan"]
    shares = {Quantity.ACCEPTANCE: plan["acceptance"], Quantity.SURE: plan["sure"]}
    return {
        **{quantity: None if value is None else _check_share(value) for quantity, value in shares.items()},
        Quantity.MEAN_N: plan["mean_n"],
        Quantity.WRITTEN: _compare_tokens(label, CALLS[label], others, n),
    }


def _compare_tokens(label: str, calls: Calls, rows: Mapping[str, Mapping[str, Any]], n: int) -> float | None:
    """Return the tokens of a method with early ends as a share of those of the same method without; None: not known.

    The share is at least that of the warm-up, of which chance may write less, and at most 1.
    """
    role = calls.first.writer
    match calls.early_ends:
        case None:
            return None
        case EarlyEnds.BY_CONFIDENCE:
            wholes, least = [f"majority-vote:{role}"], Params(n=n).num_warm_up_responses / n
        case EarlyEnds.BY_REJECTION:
            wholes, least = [f"{name}:{role}:responses" for name in ("best-of-n", "soft-best-of-n")], 0.0
    whole = next((rows[other] for other in wholes if other in rows), None)
    if whole is None:
        return None
    return min(1.0, max(least, float(rows[label]["tokens"][role] / whole["tokens"][role])))


def _check_share(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value} is no share")
    return float(value)
