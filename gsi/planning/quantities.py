"""What the calls of a step cannot tell of a method, and a run or a person must: each quantity by the method's label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Quantity(StrEnum):
    """A quantity that costs may depend on. The value is its name in JSON."""

    ACCEPTANCE = "acceptance"  # share of the steps, or of the responses
    SURE = "sure"  # share of the steps that the draft's own judgement decides
    WRITTEN = "written"  # share of the tokens of n whole responses
    MEAN_N = "mean_n"  # candidates that a model is asked for in a step
    TOKEN_ACCEPTANCE = "token_acceptance"  # probability of a token that the target's engine drafts
    SPECULATIVE_TOKENS = "speculative_tokens"  # that it drafts before each of its passes


Given = Mapping[Quantity, Mapping[str, float]]

OPTIONS: Mapping[Quantity, str] = {
    Quantity.ACCEPTANCE: "--accept",
    Quantity.SURE: "--sure",
    Quantity.WRITTEN: "--written",
    Quantity.MEAN_N: "--mean-n",
    Quantity.TOKEN_ACCEPTANCE: "--token-acceptance",
    Quantity.SPECULATIVE_TOKENS: "--speculative-tokens",
}
ANY_METHOD = "METHOD"


@dataclass(frozen=True, slots=True)
class Missing:
    """A quantity that is not known of a method. ``what`` says in words which."""

    quantity: Quantity
    what: str

    def say_option(self, label: str) -> str:
        """Return the option that gives the quantity, as it is typed."""
        option = OPTIONS[self.quantity]
        match self.quantity:
            case Quantity.SPECULATIVE_TOKENS:
                return f"{option} N"
            case Quantity.TOKEN_ACCEPTANCE:
                return f"{option} SHARE"
            case Quantity.MEAN_N:
                return f"{option} {label}=N"
            case _:
                return f"{option} {label}=SHARE"


def say_missing(missing: Sequence[Missing], label: str = ANY_METHOD) -> str:
    """Return why a method has no plan, and which options give what is missing; nothing missing: its calls are."""
    if not missing:
        return "the planner does not know which calls a step makes (gsi/planning/calls.py)"
    what = _enumerate([each.what for each in missing])
    options = _enumerate([each.say_option(label) for each in missing])
    if len(missing) == 1:
        return f"{what} is not known; {options} gives it"
    return f"{what} are not known; {options} give them"


def _enumerate(texts: Sequence[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last
