"""Particle filter: sequential Monte Carlo over steps (Puri et al., 2025, Algorithm 1).

n trajectories, the particles, grow by a step a round. A step multiplies its particle's weight by exp(beta * r), or by
exp(beta * r~) with the tilted reward of GSI: then the draft writes, and the weights are those of the target's steps. A
finished particle counts its last reward again. Before a round the particles are resampled by their weights, if the
effective sample size is below a share of n.

After a resampling each particle has the mean weight. So the mean of the weights is at every round the filter's
estimate of the normalising constant E[prod_t exp(beta r_t)], which is unbiased.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gsi.algorithm.candidates import Branch, Population, Source, Step, Trajectory
from gsi.algorithm.method import Answers, Method, Unfinished, in_every_job
from gsi.algorithm.methods.responses import start_with_n, write_each
from gsi.algorithm.params import Params, ParticleChoice, ParticleWeights
from gsi.algorithm.particles import effective_sample_size, log_mean, resample_systematically
from gsi.algorithm.parts import step_log_ratio
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import uniform
from gsi.algorithm.soft_best_of_n import probabilities, select
from gsi.algorithm.tilting import rankable


@dataclass(frozen=True, slots=True)
class _Resampled:
    """The particles of a round: each one's place in the population before, and the trajectories with their weights."""

    ancestors: Sequence[int]
    particles: Population


def resample(population: Population, params: Params, seed: int) -> _Resampled:
    """Return the particles as they go into a round.

    The random number belongs to the particles as they stand: every round has its own, and a resumed job the same.
    """
    log_weights = [particle.log_weight for particle in population]
    law = probabilities(log_weights, beta=1.0)
    if effective_sample_size(law) >= params.resample_below * len(population):
        return _Resampled(range(len(population)), population)
    state = [f"{len(particle.steps)}:{particle.log_weight!r}" for particle in population]
    ancestors = resample_systematically(law, uniform(seed, "resample", *state))
    mean = log_mean(log_weights)
    return _Resampled(ancestors, tuple(replace(population[place], log_weight=mean) for place in ancestors))


def pick(population: Population, unfinished: Sequence[Unfinished], seed: int) -> Sequence[Unfinished]:
    """Return the unfinished particles that the resampling before the round leaves."""
    if not unfinished:
        return unfinished
    ancestors = set(resample(population, unfinished[0].params, seed).ancestors)
    return [one for one in unfinished if one.place in ancestors]


async def make_round(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Resample, let the unfinished particles grow, and weigh all."""
    params = growing[0].params
    is_tilted = params.particle_weights is ParticleWeights.TILTED
    resampled = resample(population, params, seed)
    limits = {one.place: one.params for one in growing}
    grown = [
        Unfinished(place, resampled.particles[place], limits[ancestor])
        for place, ancestor in enumerate(resampled.ancestors)
        if ancestor in limits
    ]
    writer = Source.DRAFT if is_tilted else params.role
    made = await write_each(resampled.particles, grown, ports, seed, source=writer, likelihoods=is_tilted)
    branches = [
        _weigh(ancestor, particle, branch.step, params)
        for ancestor, particle, branch in zip(resampled.ancestors, resampled.particles, made.branches, strict=True)
    ]
    proposals = [replace(proposal, parent=resampled.ancestors[proposal.parent]) for proposal in made.proposals]
    return Round(tuple(branches), tuple(proposals))


def _weigh(ancestor: int, particle: Trajectory, step: Step | None, params: Params) -> Branch:
    """Return a particle after the round: its weight times exp(beta * r), and times pi_B / pi_S of a tilted new step."""
    rated = particle.steps[-1] if step is None else step
    log_weight = particle.log_weight + params.beta * rankable(rated.reward)
    if step is not None and params.particle_weights is ParticleWeights.TILTED:
        log_weight += step_log_ratio(step)
    return Branch(ancestor, step, log_weight)


async def choose(population: Population, params: Params, _answers: Answers, seed: int) -> int:
    """Return the particle with the highest weight, the first of them, or a particle drawn by the weights."""
    log_weights = [particle.log_weight for particle in population]
    if params.particle_choice is ParticleChoice.HIGHEST:
        return log_weights.index(max(log_weights))
    resampled = resample(population, params, seed)  # which leaves no particle that was given up unfinished
    number = uniform(seed, "particles", "select")
    drawn = select([particle.log_weight for particle in resampled.particles], 1.0, number)
    return resampled.ancestors[drawn]


def writers(params: Params) -> frozenset[Source]:
    """Return the model that writes: the draft if the weights are tilted, else that of the job's ``role``."""
    return frozenset({Source.DRAFT}) if asks_likelihoods(params) else frozenset({params.role})


def asks_likelihoods(params: Params) -> bool:
    """Return whether the weights are tilted."""
    return params.particle_weights is ParticleWeights.TILTED


PARTICLE_FILTER = Method(
    name="particle-filter",
    summary=(
        "n trajectories grow by a step a round, weigh exp(beta * reward), and are resampled by their weights; "
        "with tilted weights the draft writes for the target"
    ),
    source="Puri et al. (arXiv 2502.01618), Algorithm 1; tilted: GSI, section 3",
    make_round=make_round,
    start=start_with_n,
    pick=pick,
    choose=choose,
    writers=writers,
    asks_likelihoods=asks_likelihoods,
    is_search=in_every_job,
    parameters=("n", "beta", "role", "particle_weights", "resample_below", "particle_choice"),
)
