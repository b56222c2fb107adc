"""The training loop for all three models: AdamW with a warm-up, a constant rate, and a linear decay."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import nn

WARM_UP_STEPS = 100
CONSTANT_SHARE = 0.6  # share of all steps before the decay
FINAL_SHARE = 0.02  # share of the full rate at the last step
REPORT_EVERY = 100  # steps

BatchLoss = Callable[[int], tuple[torch.Tensor, float]]
"""Maps the step's number to the loss of a fresh batch and its accuracy in 0..1, or nan if nothing in it counts."""


@dataclass(slots=True)
class Progress:
    """Prints a line every hundred steps: loss, accuracy, time left."""

    console: Console
    name: str
    total: int
    started: float

    def report(self, step: int, loss: float, accuracy: float) -> None:
        """Print the line of `step` (from 1), if one is due."""
        if step % REPORT_EVERY and step != self.total:
            return
        left = (time.monotonic() - self.started) / step * (self.total - step)
        right = "     -" if math.isnan(accuracy) else f"{accuracy:6.1%}"
        self.console.print(
            f"[bold]{self.name:<16}[/] {step:>5}/{self.total}  loss {loss:.3f}  accuracy {right}  {left:4.0f} s left",
            highlight=False,
        )


def compute_rate_share(step: int, total: int) -> float:
    """Return the share of the full rate at `step` (from 0)."""
    warm_up = min(WARM_UP_STEPS, total // 4 + 1)
    if step < warm_up:
        return (step + 1) / warm_up
    fall_from = CONSTANT_SHARE * total
    if step < fall_from:
        return 1.0
    return 1.0 - (1.0 - FINAL_SHARE) * (step - fall_from) / (total - fall_from)


def optimise(model: nn.Module, batch_loss: BatchLoss, steps: int, rate: float, name: str) -> None:
    """Train `model` for a number of steps, not for a time, so that a seed gives the same model."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: compute_rate_share(step, steps))
    progress = Progress(Console(), name, steps, time.monotonic())
    model.train()
    for step in range(steps):
        loss, accuracy = batch_loss(step)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        progress.report(step + 1, loss.item(), accuracy)
    model.eval()
