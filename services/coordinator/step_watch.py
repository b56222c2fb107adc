"""What an operator can see of a job's steps: log fields, spans, and the series of ``metrics.py``.

The runner tells one ``StepWatch`` where its step is, and the watch tells everybody else.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from gsi.runtime.tracing import NOTHING, tracing
from services.coordinator import metrics

log = structlog.get_logger()


class StepWatch:
    """Watches the steps of one run, one after the other, each from its first call to its checkpoint.

    Its clock starts with the watch, and every second between two checkpoints is in one phase. ``index`` is the number
    of the step, or round, that is being made, from 0.
    """

    def __init__(self, params: Params, num_kept: int) -> None:
        self._params = params
        self.index = num_kept
        self._span = NOTHING
        self._step_began = time.perf_counter()
        self._waited = 0.0

    def begin(self) -> None:
        """Begin a step: what this task logs and traces from now on belongs to it."""
        bind_contextvars(step=self.index)
        self._span = tracing.begin_step(self.index)

    def note_wait(self, seconds: float) -> None:
        """Count seconds without work for the step: it had no slot, or a service was unavailable or full."""
        self._waited += seconds

    @contextmanager
    def checkpoint(self, made: Round) -> Iterator[None]:
        """Time the checkpoint that this block writes. If the block succeeds, the step is kept and ends here."""
        began = time.perf_counter()
        with tracing.begin_phase("checkpoint"):
            yield
        phases = self._end_phases(made, began)
        metrics.observe_step(made, self._params, phases)
        log.debug("step kept", outcome=made.step.outcome, seconds=round(sum(phases.values()), 6))
        self._end_span(made, phases)
        unbind_contextvars("step")
        self.index += 1

    def _end_phases(self, made: Round, checkpoint_began: float) -> dict[str, float]:
        """Return the step's seconds by phase, which add up to the time since the step before, and restart the clock.

        The models' times were measured within that time and on the same clock, so the overhead is never below 0 but by
        rounding.
        """
        now = time.perf_counter()
        phases = {**model_phases(made), "checkpoint": now - checkpoint_began, "wait": self._waited}
        phases["overhead"] = max(0.0, now - self._step_began - sum(phases.values()))
        self._step_began, self._waited = now, 0.0
        return phases

    def _end_span(self, made: Round, phases: Mapping[str, float]) -> None:
        step = made.step
        self._span.set(
            outcome=step.outcome,
            source=step.source,
            reward=_drop_non_finite(step.reward),
            tilted_reward=_drop_non_finite(step.tilted_reward),
            draft_tokens=made.num_tokens(Source.DRAFT),
            target_tokens=made.num_tokens(Source.TARGET),
            wait_seconds=phases["wait"],
            overhead_seconds=phases["overhead"],
        )
        self._span.end()


def model_phases(made: Round) -> dict[str, float]:
    """Return the models' seconds by phase; where several trajectories grow side by side, those of the slowest."""
    phases: dict[str, float] = {}
    for proposal in made.longest:
        if proposal.source is Source.DRAFT:
            drafting = proposal.seconds["propose"]
            phases |= {"draft": drafting, "score": proposal.total_seconds - drafting}
        else:
            phases["resample" if "draft" in phases else "target"] = proposal.total_seconds
    return phases


def _drop_non_finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
