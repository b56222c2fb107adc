"""How many parameters a model has: an estimate of its floating-point operations (FLOPs) needs the number."""

from collections.abc import Callable
from typing import Any

import torch


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of a model's parameters. A parameter that several layers share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_parameters_without_weights(make: Callable[[], Any]) -> int | None:
    """Return ``count_parameters`` of the model that ``make`` makes, without its memory; None if ``make`` cannot.

    For a model that another process has loaded, perhaps in parts or quantised. On PyTorch's meta device a model has
    shapes and no numbers. ``make`` fails with ValueError or ImportError for an architecture without a class.
    """
    try:
        with torch.device("meta"):
            return count_parameters(make())
    except (ValueError, ImportError):
        return None
