"""How many parameters a model has: what an estimate of its floating-point operations needs."""

from collections.abc import Callable
from typing import Any

import torch


def num_parameters(model: torch.nn.Module) -> int:
    """Return the number of a model's parameters, those that layers share counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def num_parameters_if_made(make: Callable[[], Any]) -> int | None:
    """Return ``num_parameters`` of the model that ``make`` makes, without its memory; None if it cannot be made.

    For a model that another process has loaded, perhaps in parts or quantised: transformers makes one from the same
    configuration on the meta device, which knows shapes and holds no numbers. It refuses what it has no class for.
    """
    try:
        with torch.device("meta"):
            return num_parameters(make())
    except (ValueError, ImportError):
        return None
