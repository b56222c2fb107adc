"""What a method makes: a step (``NewStep``) or a round of steps (``Round``), and the proposals that they come from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Branch, Source, Step
from gsi.algorithm.proposal import Proposal


@dataclass(frozen=True, slots=True)
class NewStep:
    """The step that follows a trajectory, and the proposals it was chosen from. ``tilted_rewards`` are the draft's."""

    step: Step
    proposals: tuple[Proposal, ...]
    tilted_rewards: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """A new step of each trajectory that grew, and the proposals that the steps were chosen from.

    Most methods keep one trajectory: then there is one branch. The tilted rewards are the draft's.
    """

    branches: tuple[Branch, ...]
    proposals: tuple[Proposal, ...]
    tilted_rewards: Sequence[float] = ()

    @property
    def steps(self) -> list[Step]:
        """Return the new steps, the leading trajectory's first."""
        return [branch.step for branch in self.branches if branch.step is not None]

    @property
    def step(self) -> Step:
        """Return the new step of the leading trajectory."""
        return self.steps[0]

    @property
    def seconds(self) -> float:
        """How long the models took."""
        return _seconds(self.longest)

    @property
    def longest(self) -> list[Proposal]:
        """Return the proposals that took longest: trajectories grow at once, the proposals of a trajectory in turn."""
        of_parent: defaultdict[int, list[Proposal]] = defaultdict(list)
        for proposal in self.proposals:
            of_parent[proposal.parent].append(proposal)
        return max(of_parent.values(), key=_seconds)

    def by(self, source: Source) -> list[Proposal]:
        """Return the proposals that ``source`` wrote."""
        return [proposal for proposal in self.proposals if proposal.source is source]

    def num_tokens(self, source: Source) -> int:
        """Return how many tokens a model wrote for this round, including the tokens of discarded candidates."""
        return sum(proposal.num_tokens for proposal in self.by(source))

    @property
    def rates_some(self) -> bool:
        """Whether the PRM was not asked about every candidate, in this round or before it."""
        return any(proposal.unrated or proposal.num_unread_tokens for proposal in self.proposals)

    @property
    def num_rated_tokens(self) -> int:
        """Return how many tokens the PRM rated in this round, those included that it had not read before."""
        return sum(proposal.num_rated_tokens for proposal in self.proposals)


def _seconds(proposals: Sequence[Proposal]) -> float:
    return sum(proposal.total_seconds for proposal in proposals)
