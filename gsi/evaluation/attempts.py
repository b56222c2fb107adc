"""What several answers to one problem are worth together: pass@k, and best-of-k by the PRM, from records alone.

The answers of a problem are its jobs of one row, a seed each; of best-of-n and majority vote they are all responses of
these jobs, which the records keep. Both figures are means over every choice of k answers, so no chance is left in them.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gsi.algorithm.params import Scope
from gsi.evaluation.figures import group_jobs
from gsi.evaluation.records import RecordedJob
from gsi.grading.graders import AnswerKind, grade
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.state import JobState
from gsi.jobs.step_record import BranchRecord
from gsi.jobs.thinking import split_reasoning

# Methods whose trajectories are independent answers of one model, the last two with scope responses.
RESPONSES = frozenset({"best-of-n", "majority-vote"})
RESPONSES_BY_SCOPE = frozenset({"soft-best-of-n", "gsi-no-rejection"})
SCORES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda rewards: rewards[-1],
    "minimum": min,
    "product": math.prod,
}  # of a response, from the rewards of its steps; the names are those of the parameter aggregate
OF_THE_END = frozenset({"last"})  # what the reward of the last step is enough for


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer to a problem. ``rewards`` are those of its steps.

    If the PRM was not asked of each, there is that of the last step alone (``has_all`` False); none if not even that.
    """

    is_correct: bool
    rewards: tuple[float, ...]
    has_all: bool = True

    def has_score(self, name: str) -> bool:
        return bool(self.rewards) and (self.has_all or name in OF_THE_END)


@dataclass(frozen=True, slots=True)
class AttemptFigures:
    """Shares of problems, over those with at least k answers."""

    label: str
    n: int
    k: int
    problems: int
    pass_at_k: float  # one of k answers is right
    best_of_k: Mapping[str, float]  # the answer with the highest score is right, by score; empty without rewards


def compute_attempts(jobs: Sequence[RecordedJob]) -> list[AttemptFigures]:
    """Return the figures of each row for k = 1, 2, 4, … as far as a problem has answers."""
    answered = [job for job in jobs if job.state is JobState.SUCCEEDED]
    found = []
    for of_row in group_jobs(answered, lambda job: (0, job.label, job.n)).values():
        groups = group_jobs(of_row, lambda job: job.problem).values()
        problems = [[attempt for job in group for attempt in list_attempts(job)] for group in groups]
        most = max(map(len, problems))
        found += [_compute_figures(of_row[0], problems, 2**power) for power in range(most.bit_length())]
    return found


def list_attempts(job: RecordedJob) -> list[Attempt]:
    """Return the answers that a job has on record: one, or all responses of best-of-n and majority vote.

    With a rule for n the number of responses depends on how good they are: then it is one.
    A response that was not chosen has no grade on record, so all responses of a job are graded by notation alone.
    """
    method, is_by_scope = job.params.get("method"), job.params.get("scope") == Scope.RESPONSES
    has_all = method in RESPONSES or (method in RESPONSES_BY_SCOPE and is_by_scope)
    if not has_all or job.params.get("n_rule") is not None:
        return [_make_attempt(job.is_correct, _find_rewards(job))]
    thinking = job.params.get("thinking")
    finder = AnswerFinder(job.params.get("answer_pattern"), thinking=False)
    responses = [(split_reasoning(text, thinking)[1], rewards) for text, rewards in _follow_responses(job)]
    return [
        _make_attempt(grade(text, finder.find(text), job.expected, AnswerKind.EXACT).is_correct_strict, rewards)
        for text, rewards in responses
    ]


def estimate_pass(num_attempts: int, num_right: int, k: int) -> float:
    """Return the probability that one of k answers, drawn without replacement, is right (Chen et al., 2021)."""
    return 1 - math.comb(num_attempts - num_right, k) / math.comb(num_attempts, k)


def estimate_best(attempts: Sequence[Attempt], score: Callable[[Sequence[float]], float], k: int) -> float:
    """Return the probability that the highest score among k answers, drawn without replacement, is a right answer's.

    Equal scores are decided by the answers' order. Each answer has rewards.
    """
    best_first = sorted(attempts, key=lambda attempt: score(attempt.rewards), reverse=True)  # keeps equals in order
    worse = range(len(attempts) - 1, -1, -1)  # how many answers each one beats
    wins = sum(math.comb(num, k - 1) for num, attempt in zip(worse, best_first, strict=True) if attempt.is_correct)
    return wins / math.comb(len(attempts), k)


def _compute_figures(job: RecordedJob, problems: Sequence[Sequence[Attempt]], k: int) -> AttemptFigures:
    enough = [attempts for attempts in problems if len(attempts) >= k]
    return AttemptFigures(
        label=job.label,
        n=job.n,
        k=k,
        problems=len(enough),
        pass_at_k=statistics.fmean(
            estimate_pass(len(attempts), sum(attempt.is_correct for attempt in attempts), k) for attempts in enough
        ),
        best_of_k={
            name: statistics.fmean(estimate_best(attempts, score, k) for attempts in enough)
            for name, score in SCORES.items()
            if all(attempt.has_score(name) for attempts in enough for attempt in attempts)
        },
    )


def _make_attempt(is_correct: bool, rewards: Sequence[float | None]) -> Attempt:
    """Return an answer with the rewards of its steps, those that are no numbers as -inf."""
    has_all = None not in rewards
    known = rewards if has_all else rewards[-1:]
    numbers = [-math.inf if math.isnan(reward) else reward for reward in known if reward is not None]
    return Attempt(is_correct, tuple(numbers), has_all)


def _find_rewards(job: RecordedJob) -> list[float | None]:
    """Return the rewards of the answer's steps; none if the records do not tell which trajectory is the answer."""
    thinking, found = job.params.get("thinking"), _follow_responses(job)
    if len(found) == 1:
        return found[0][1]
    return next((rewards for text, rewards in found if split_reasoning(text, thinking)[1] == job.text), [])


def _follow_responses(job: RecordedJob) -> list[tuple[str, list[float | None]]]:
    """Return the text of each trajectory and the rewards of its steps, put together round by round."""
    population: list[tuple[str, list[float | None]]] = []
    for made in job.steps:
        grown = []
        for branch in made.branches or (BranchRecord(parent=0, step=made),):
            text, rewards = population[branch.parent] if population else ("", [])  # each begins with the prompt
            if branch.step is not None:
                text, rewards = text + branch.step.text, [*rewards, branch.step.reward]
            grown.append((text, rewards))
        population = grown
    return population
