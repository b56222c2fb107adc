"""When a trajectory is finished: a function of the trajectory alone, so a resumed job stops at the same place."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from gsi.algorithm.candidates import FinishReason, Trajectory
from gsi.algorithm.params import Params, StopRules
from gsi.algorithm.tilting import rankable

HasAnswer = Callable[[str], bool]


class StopReason(StrEnum):
    """Why a trajectory ended, in the order in which the reasons are checked."""

    EOS = "eos"
    ANSWER = "answer"
    LOW_REWARD = "low_reward"
    MAX_STEPS = "max_steps"
    MAX_TOKENS = "max_tokens"


@dataclass(frozen=True, slots=True)
class JobRules:
    """When a job's trajectory is finished, and how long its next step may be. A job's pattern may be slow to ask."""

    params: Params
    has_answer: HasAnswer
    max_length: int  # the models' context in tokens, prompt included

    def find_reason(self, trajectory: Trajectory) -> StopReason | None:
        """Return why the trajectory is finished, or None if it is not."""
        return stop_reason(trajectory, self.params.stop, self.has_answer, self.max_length)

    @property
    def is_end(self) -> Callable[[Trajectory], bool] | None:
        """Return a test whether a trajectory is finished that reads no reward; None where a low reward ends it, too."""
        if self.params.stop.reward_floor is not None:
            return None
        return lambda trajectory: self.find_reason(trajectory) is not None

    def limit_step(self, trajectory: Trajectory) -> Params:
        """Return the parameters by which no candidate can pass the job's token limit or the models' context."""
        sampling = self.params.sampling
        limit = min(sampling.max_step_tokens, tokens_left(trajectory, self.params.stop, self.max_length))
        return replace(self.params, sampling=replace(sampling, max_step_tokens=limit))


def stop_reason(trajectory: Trajectory, rules: StopRules, has_answer: HasAnswer, max_length: int) -> StopReason | None:
    """Return why the trajectory is finished, or None if it is not.

    ``has_answer`` gets the answer's text; ``max_length`` is the models' context in tokens, prompt included.
    """
    if trajectory.steps:
        last = trajectory.steps[-1]
        is_low = rules.is_low(rankable(last.best_reward))
        if is_low and rules.drops_low_step:
            return StopReason.LOW_REWARD  # before all that the step says, as it is not part of the answer
        if last.finish_reason is FinishReason.EOS:
            return StopReason.EOS
        if has_answer(trajectory.text):
            return StopReason.ANSWER
        if is_low:
            return StopReason.LOW_REWARD
    if len(trajectory.steps) >= rules.max_steps:
        return StopReason.MAX_STEPS
    return StopReason.MAX_TOKENS if tokens_left(trajectory, rules, max_length) < 1 else None


def has_ample_room(trajectory: Trajectory, rules: StopRules) -> bool:
    """Return whether the PRM has room for the trajectory even if it reads a text as twice as many tokens."""
    num_tokens = len(trajectory.prompt.token_ids) + trajectory.num_step_tokens + len(trajectory.steps)
    return rules.prm_max_length is None or 2 * num_tokens <= rules.prm_max_length


def cut_answer(trajectory: Trajectory, reason: StopReason, rules: StopRules) -> Trajectory:
    """Return the finished trajectory as an answer: without its last step, if the job drops a step of low reward."""
    if reason is StopReason.LOW_REWARD and rules.drops_low_step:
        return replace(trajectory, steps=trajectory.steps[:-1])
    return trajectory


def tokens_left(trajectory: Trajectory, rules: StopRules, max_length: int) -> int:
    """Return how many tokens the next step may have, by the job's limit and by the models' contexts.

    The PRM's tokens are estimated: as many as the language models', and a mark behind each step.
    """
    num_tokens = len(trajectory.prompt.token_ids) + trajectory.num_step_tokens
    left = min(rules.max_tokens - trajectory.num_step_tokens, max_length - num_tokens)
    if rules.prm_max_length is None:
        return left
    return min(left, rules.prm_max_length - num_tokens - len(trajectory.steps) - 1)
