"""What a row found, and what its queues left behind."""

from dataclasses import dataclass, field

MAX_SHOWN = 10  # of many things that are alike


@dataclass(slots=True)
class Outcome:
    """What a row found: ``problems`` is empty if everything was as promised."""

    jobs: int = 0
    kills: int = 0  # and stops, where a row does both at random
    lost: int = 0
    duplicated: int = 0
    different_answers: int = 0
    healthy_dead: int = 0  # jobs that have an answer when nothing disturbs them
    orphans: int = 0
    consumers_left: int = 0
    schedules: int = 0  # of faults, each of which ended with a quiet queue
    max_steps_repeated_per_kill: int = 0
    numbers: dict[str, float] = field(default_factory=dict)  # more that is worth knowing
    problems: list[str] = field(default_factory=list)

    def expect(self, is_so: bool, problem: str) -> None:
        """Note a problem unless something is as it shall be."""
        if not is_so:
            self.problems.append(problem)


@dataclass(slots=True)
class LeftBehind:
    """What a row's queues left behind: orphans and unrest while coordinators ran, consumers after they had stopped."""

    orphans: list[str] = field(default_factory=list)
    unrest: list[str] = field(default_factory=list)
    consumers: set[str] = field(default_factory=set)

    def note(self, outcome: Outcome) -> None:
        """Count all of it, and note it as problems."""
        outcome.orphans, outcome.consumers_left = len(self.orphans), len(self.consumers)
        outcome.problems += self.unrest
        outcome.expect(not self.orphans, f"{len(self.orphans)} orphans: {'; '.join(self.orphans[:MAX_SHOWN])}")
        outcome.expect(not self.consumers, f"consumers of no coordinator: {sorted(self.consumers)[:MAX_SHOWN]}")
