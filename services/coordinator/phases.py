"""Where the time of an answer's steps goes: every second between two checkpoints is in one phase."""

import time

from gsi.algorithm.candidates import Source
from gsi.algorithm.round import Round


class StepClock:
    """Runs from the start of an answer; each kept step ends a lap."""

    def __init__(self) -> None:
        self._lap_began = time.perf_counter()
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Note a time in which nothing was done for the step: it had no slot, or its service was away or full."""
        self._waited += seconds

    def lap(self, made: Round, checkpoint_began: float) -> dict[str, float]:
        """End the step, whose checkpoint has just been written; return its phases in seconds.

        They add up to the time since the step before. What the models took was measured inside of the same time and on
        the same clock, so the rest, the overhead, is never below 0 but by rounding. ``checkpoint_began`` is a time of
        ``time.perf_counter``.
        """
        now = time.perf_counter()
        phases = {**model_phases(made), "checkpoint": now - checkpoint_began, "wait": self._waited}
        phases["overhead"] = max(0.0, now - self._lap_began - sum(phases.values()))
        self._lap_began, self._waited = now, 0.0
        return phases


def model_phases(made: Round) -> dict[str, float]:
    """Return what the models took, in seconds by phase: of several trajectories side by side, of the longest one."""
    phases: dict[str, float] = {}
    for proposal in made.longest:
        if proposal.source is Source.DRAFT:
            drafted = proposal.seconds["propose"]
            phases |= {"draft": drafted, "score": proposal.total_seconds - drafted}
        else:
            phases["resample" if "draft" in phases else "target"] = proposal.total_seconds
    return phases
