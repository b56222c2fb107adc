"""The law of a particle filter with systematic resampling, by enumeration and without ``gsi``.

Every draw of every particle and every outcome of every resampling is followed, so n and the number of steps are small.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, product

from tests.algorithm.worlds import World

Particle = tuple[tuple[int, ...], float]  # its steps and its weight


@dataclass
class ParticleFilter:
    """Puri et al., Algorithm 1; the answer is drawn by the last weights. A finished particle weighs its last reward."""

    world: World
    beta: float
    n: int
    share: float  # resample if the effective sample size is below share * n
    max_steps: int
    is_tilted: bool = False
    answers: defaultdict[tuple[int, ...], float] = field(default_factory=lambda: defaultdict(float))
    estimate: float = 0.0  # the expected mean of the last weights

    def law(self) -> Mapping[tuple[int, ...], float]:
        """Return the law of the answer; ``estimate`` is set afterwards."""
        self._follow([((), 1.0)] * self.n, 1.0)
        return self.answers

    def potential(self, steps: Sequence[int], *, is_new: bool) -> float:
        """Return by what the last step multiplies its particle's weight."""
        place, y = len(steps) - 1, steps[-1]
        weight = math.exp(self.beta * self.world.after(self.world.reward, place)[y])
        if self.is_tilted and is_new:
            weight *= self.world.after(self.world.target, place)[y] / self.world.after(self.world.draft, place)[y]
        return weight

    def is_finished(self, steps: Sequence[int]) -> bool:
        return len(steps) == self.max_steps or bool(set(steps) & self.world.ends)

    def _follow(self, before: Sequence[Particle], probability: float) -> None:
        for chance, particles in self._resampled(before):
            if all(self.is_finished(steps) for steps, _ in particles):
                total = sum(weight for _, weight in particles)
                self.estimate += probability * chance * total / self.n
                for steps, weight in particles:
                    self.answers[steps] += probability * chance * weight / total
                continue
            for drawn, after in self._grown(particles):
                self._follow(after, probability * chance * drawn)

    def _resampled(self, particles: Sequence[Particle]) -> Iterator[tuple[float, Sequence[Particle]]]:
        weights = [weight for _, weight in particles]
        total = sum(weights)
        if total**2 / sum(weight**2 for weight in weights) >= self.share * self.n * (1 - 1e-12):
            yield 1.0, particles
            return
        for chance, ancestors in systematic([weight / total for weight in weights]):
            yield chance, [(particles[place][0], total / self.n) for place in ancestors]

    def _grown(self, particles: Sequence[Particle]) -> Iterator[tuple[float, Sequence[Particle]]]:
        choices = [[None] if self.is_finished(steps) else list(self.world.steps) for steps, _ in particles]
        for drawn in product(*choices):
            after, probability = [], 1.0
            for (steps, weight), y in zip(particles, drawn, strict=True):
                if y is None:
                    after.append((steps, weight * self.potential(steps, is_new=False)))
                    continue
                probability *= self.world.after(self.world.draft, len(steps))[y]
                after.append(((*steps, y), weight * self.potential((*steps, y), is_new=True)))
            if probability > 0:
                yield probability, after


def systematic(weights: Sequence[float]) -> list[tuple[float, list[int]]]:
    """Return every outcome of systematic resampling with its probability: the intervals of the uniform number."""
    n, ends = len(weights), list(accumulate(weights))
    cuts = sorted({0.0, 1.0, *(cut for end in ends for i in range(n) if 0 < (cut := n * end - i) < 1)})
    outcomes = []
    for low, high in pairwise(cuts):
        if high - low < 1e-12:  # a cut at an end, but for a rounding error
            continue
        points = [((low + high) / 2 + i) / n for i in range(n)]
        outcomes.append((high - low, [sum(end <= point for end in ends) for point in points]))
    return outcomes
