"""What a method makes in one round: a step of each trajectory that grew, and what the steps were chosen from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from gsi.algorithm.candidates import Branch, Source, Step
from gsi.algorithm.proposal import Proposal


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one round: a step of each trajectory that grew, and the proposals that the steps were made from.

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
        return self.steps[0]

    @property
    def seconds(self) -> float:
        """How long the models took."""
        return _seconds(self.longest)

    @property
    def longest(self) -> list[Proposal]:
        """Return what took longest: trajectories grow side by side, the proposals of one follow one another."""
        of_parent: defaultdict[int, list[Proposal]] = defaultdict(list)
        for proposal in self.proposals:
            of_parent[proposal.parent].append(proposal)
        return max(of_parent.values(), key=_seconds)

    def by(self, source: Source) -> list[Proposal]:
        """Return the proposals that ``source`` wrote."""
        return [proposal for proposal in self.proposals if proposal.source is source]

    def num_tokens(self, source: Source) -> int:
        """Return how many tokens a model wrote for this round, those of discarded candidates too."""
        return sum(proposal.num_tokens for proposal in self.by(source))


def _seconds(proposals: Sequence[Proposal]) -> float:
    return sum(proposal.total_seconds for proposal in proposals)
