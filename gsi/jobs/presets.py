"""Defaults that other parameters of a job decide: those of preset authors, and those of thinking."""

from collections.abc import Mapping
from typing import Any

from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Likelihood, Preset

AUTHORS_VALUES: Mapping[str, Any] = {  # in the code of GSI's authors; u = 10 is the paper's 0.5 at its beta of 20
    "acceptance_threshold": 10.0,
    "reward_floor": 0.1,
    "likelihood": Likelihood.MODEL.value,
}

THINKING_VALUES: Mapping[str, Any] = {  # a trace has hundreds of paragraphs, and each is a step
    "max_steps": 1000,
    "max_tokens": 32_768,  # the output length that the model cards of Qwen3 recommend
}


def add_preset_values(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, with the values of preset authors and of thinking where it says none.

    A method that does not take the preset has the values of the paper.
    """
    method = METHODS.get(str(given.get("method", "gsi")))
    is_taken = method is not None and "preset" in method.parameters and given.get("preset") == Preset.AUTHORS
    thinking = THINKING_VALUES if given.get("thinking") is True else {}
    return {**thinking, **(AUTHORS_VALUES if is_taken else {}), **given}
