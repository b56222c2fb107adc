"""When a trajectory is finished: a function of the trajectory alone, so a resumed job stops at the same place."""

from collections.abc import Callable
from enum import StrEnum

from gsi.algorithm.candidates import FinishReason, Trajectory
from gsi.algorithm.params import StopRules
from gsi.algorithm.tilting import rankable

HasAnswer = Callable[[str], bool]


class StopReason(StrEnum):
    """Why a trajectory ended, in the order in which the reasons are checked."""

    EOS = "eos"
    ANSWER = "answer"
    LOW_REWARD = "low_reward"
    MAX_STEPS = "max_steps"
    MAX_TOKENS = "max_tokens"


def stop_reason(trajectory: Trajectory, rules: StopRules, has_answer: HasAnswer, max_length: int) -> StopReason | None:
    """Return why the trajectory is finished, or None if it is not.

    ``has_answer`` gets the answer's text; ``max_length`` is the models' context in tokens, prompt included.
    """
    if trajectory.steps:
        last = trajectory.steps[-1]
        if last.finish_reason is FinishReason.EOS:
            return StopReason.EOS
        if has_answer(trajectory.text):
            return StopReason.ANSWER
        if rules.reward_floor is not None and rankable(last.best_reward) < rules.reward_floor:
            return StopReason.LOW_REWARD
    if len(trajectory.steps) >= rules.max_steps:
        return StopReason.MAX_STEPS
    return StopReason.MAX_TOKENS if tokens_left(trajectory, rules, max_length) < 1 else None


def tokens_left(trajectory: Trajectory, rules: StopRules, max_length: int) -> int:
    """Return how many tokens the next step may have, by the job's limit and by the models' context."""
    in_context = max_length - len(trajectory.prompt.token_ids) - trajectory.num_step_tokens
    return min(rules.max_tokens - trajectory.num_step_tokens, in_context)
