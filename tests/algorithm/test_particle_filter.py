"""The particle filter: its law and its estimate where all can be enumerated, and the rules that it is made of.

Puri et al. (arXiv 2502.01618), Algorithm 1: weigh each particle by its reward, resample by the softmax of the weights,
let each grow by a step, until all have ended. Where its potentials are tilted, they are GSI's (section 3).
"""

import math
from dataclasses import replace
from itertools import pairwise, product
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Population, Source
from gsi.algorithm.method import Unfinished
from gsi.algorithm.methods.particle_filter import choose, make_round, pick, resample
from gsi.algorithm.params import Params, ParticleChoice, ParticleWeights, StopRules
from gsi.algorithm.particles import effective_sample_size, log_mean, resample_systematically
from gsi.jobs.step_record import StepRecord
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.exact_particles import ParticleFilter, systematic
from tests.algorithm.searching import UNREAD, trajectory, write
from tests.algorithm.worlds import LETTERS, World

FIXED = World(draft=(0.7, 0.3), target=(0.4, 0.6), reward=(0.2, 0.9), turns=True)
ENDING = replace(FIXED, ends=frozenset({1}))  # some particles end a step before others
PARAMS = Params(
    method="particle-filter", n=3, beta=1.5, particle_choice=ParticleChoice.SAMPLE, stop=StopRules(max_steps=2)
)
NUM_DRAWS = 2_000


def exactly(world: World, params: Params) -> ParticleFilter:
    """Return the filter of these parameters that enumerates all draws."""
    is_tilted = params.particle_weights is ParticleWeights.TILTED
    return ParticleFilter(world, params.beta, params.n, params.resample_below, params.stop.max_steps, is_tilted)


def normalising_constant(world: World, params: Params) -> float:
    """Return E[prod_t exp(beta r_t)] over endless responses of the draft or, with tilted weights, of the target."""
    model = world.target if params.particle_weights is ParticleWeights.TILTED else world.draft
    total = 0.0
    for steps in product(world.steps, repeat=params.stop.max_steps):
        laws, rewards = ([world.after(table, t) for t in range(len(steps))] for table in (model, world.reward))
        total += math.prod(
            law[y] * math.exp(params.beta * reward[y]) for law, reward, y in zip(laws, rewards, steps, strict=True)
        )
    return total


# --- The law and the estimate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "weights", "share"),
    [
        (FIXED, ParticleWeights.REWARD, 1.0),
        (ENDING, ParticleWeights.TILTED, 1.0),
        (ENDING, ParticleWeights.REWARD, 0.8),
    ],
)
async def test_the_answer_and_the_estimate_follow_their_exact_laws(
    world: World, weights: ParticleWeights, share: float
) -> None:
    """Chi-square for the answer; the estimate is within five standard errors of its expectation."""
    params = replace(PARAMS, particle_weights=weights, resample_below=share)
    filtered = exactly(world, params)
    law = {"".join(LETTERS[y] for y in steps): p for steps, p in filtered.law().items()}
    answers, estimates = [], []
    for seed in range(NUM_DRAWS):
        written = await write(params, world.ports(), seed, answers=UNREAD)
        answers.append(written.answer.text)
        estimates.append(estimate(written.populations(params)[-1]))
    assert p_value(law, answers) > LEAST_P
    error = stdev(estimates) / math.sqrt(NUM_DRAWS)
    assert abs(fmean(estimates) - filtered.estimate) < 5 * error
    assert error < 0.02 * filtered.estimate  # or the test would say nothing


def estimate(population: Population) -> float:
    """Return the filter's estimate of the normalising constant: the mean of the last weights."""
    return math.exp(log_mean([particle.log_weight for particle in population]))


@pytest.mark.parametrize("weights", ParticleWeights)
@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_estimate_of_the_normalising_constant_is_unbiased(weights: ParticleWeights, share: float, n: int) -> None:
    """Exactly E[prod_t exp(beta r_t)], at every n and however often it resamples; tilted, that of the target."""
    params = replace(PARAMS, particle_weights=weights, resample_below=share, n=n)
    filtered = exactly(FIXED, params)
    filtered.law()
    assert filtered.estimate == pytest.approx(normalising_constant(FIXED, params), rel=1e-12)


def test_the_law_tends_to_the_tilted_target_as_n_grows() -> None:
    """pi_B(y) prod_t exp(beta r_t) / Z: the draft writes, and the weights make it the target's."""

    def distance(n: int) -> float:
        params = replace(PARAMS, particle_weights=ParticleWeights.TILTED, n=n)
        law, limit = exactly(FIXED, params).law(), exactly(replace(FIXED, draft=FIXED.target), params)
        weights = {
            steps: math.prod(
                FIXED.after(FIXED.target, t)[y] * limit.potential(steps[: t + 1], is_new=False)
                for t, y in enumerate(steps)
            )
            for steps in product(FIXED.steps, repeat=2)
        }
        total = sum(weights.values())
        return sum(abs(law[steps] - weight / total) for steps, weight in weights.items()) / 2

    distances = [distance(n) for n in (1, 2, 3, 4, 5)]
    assert all(later < earlier for earlier, later in pairwise(distances))
    assert distances[-1] < distances[0] / 2


# --- Resampling ---------------------------------------------------------------------------------------------------

some_weights = st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda each: sum(each) > 0.01)


@given(some_weights, st.floats(0, 1, exclude_max=True))
def test_every_particle_has_floor_or_ceil_of_its_share(raw: list[float], uniform: float) -> None:
    """Systematic resampling: floor(n w) or ceil(n w) copies, n in all, in order; none of a particle of weight 0."""
    n, total = len(raw), math.fsum(raw)
    weights = [weight / total for weight in raw]
    ancestors = resample_systematically(weights, uniform)
    assert len(ancestors) == n
    assert ancestors == sorted(ancestors)
    for place, weight in enumerate(weights):
        copies = ancestors.count(place)
        assert math.floor(n * weight - 1e-9) <= copies <= math.ceil(n * weight + 1e-9)
        assert weight > 0 or copies == 0


@given(some_weights)
def test_resampling_is_unbiased(raw: list[float]) -> None:
    """Over all uniform numbers a particle has n w copies."""
    total = math.fsum(raw)
    weights = [weight / total for weight in raw]
    outcomes = systematic(weights)
    for place, weight in enumerate(weights):
        copies = sum(chance * ancestors.count(place) for chance, ancestors in outcomes)
        assert copies == pytest.approx(len(weights) * weight, abs=1e-9)


def test_the_enumerated_outcomes_are_those_of_the_code() -> None:
    """In the middle of each interval of the uniform number."""
    weights, at = [0.5, 0.1, 0.25, 0.15], 0.0
    for chance, ancestors in systematic(weights):
        assert resample_systematically(weights, at + chance / 2) == ancestors
        at += chance
    assert at == pytest.approx(1)


@pytest.mark.parametrize(
    ("weights", "expected"), [([0.25] * 4, 4.0), ([1.0, 0.0, 0.0], 1.0), ([3.0, 1.0], 1.6), ([0.5, 0.5, 0.0], 2.0)]
)
def test_the_effective_sample_size_counts_the_particles_that_matter(weights: list[float], expected: float) -> None:
    """(sum w)^2 / sum w^2, whatever the scale."""
    assert effective_sample_size(weights) == pytest.approx(expected)
    assert effective_sample_size([7 * weight for weight in weights]) == pytest.approx(expected)


def test_the_mean_weight_does_not_overflow() -> None:
    """Weights are exp(beta r) over many rounds."""
    assert log_mean([1000.0, 1000.0 + math.log(3)]) == pytest.approx(1000 + math.log(2))
    assert log_mean([-math.inf, 0.0]) == pytest.approx(-math.log(2))
    assert log_mean([-math.inf, -math.inf]) == -math.inf


def weighted(*log_weights: float) -> Population:
    """Return particles of one step and reward 0.5, with these weights."""
    return tuple(replace(trajectory((LETTERS[i], 0.5)), log_weight=w) for i, w in enumerate(log_weights))


@pytest.mark.parametrize(("share", "is_resampled"), [(0.0, False), (0.79, False), (0.81, True), (1.0, True)])
def test_particles_are_resampled_below_a_share_of_n(share: float, is_resampled: bool) -> None:
    """Weights 3 and 1 are worth 1.6 particles, 0.8 of two. Afterwards each has the mean weight."""
    population = weighted(math.log(3), 0.0)
    resampled = resample(population, replace(PARAMS, n=2, resample_below=share), seed=1)
    log_weights = [particle.log_weight for particle in resampled.particles]
    assert log_weights == pytest.approx([math.log(2)] * 2 if is_resampled else [math.log(3), 0.0])
    assert all(
        particle.text == population[place].text
        for place, particle in zip(resampled.ancestors, resampled.particles, strict=True)
    )


async def test_a_particle_whose_reward_is_not_a_number_is_never_resampled() -> None:
    """Its weight is 0 from then on."""
    world = replace(FIXED, reward=(math.nan, 0.1), turns=False)
    params = replace(PARAMS, n=6, stop=StopRules(max_steps=3))
    for seed in range(20):
        written = await write(params, world.ports(), seed, answers=UNREAD)
        for before, after in pairwise(written.rounds):
            dead = {place for place, branch in enumerate(before.branches) if branch.log_weight == -math.inf}
            assert len(dead) == 6 or not dead & {branch.parent for branch in after.branches}


def test_equal_weights_are_left_as_they_are() -> None:
    """Also where no particle has a reward."""
    for log_weight in (0.5, -math.inf):
        population = weighted(log_weight, log_weight, log_weight)
        assert resample(population, PARAMS, seed=1).particles == population


# --- Rounds -------------------------------------------------------------------------------------------------------


async def test_a_finished_particle_counts_its_last_reward_again() -> None:
    """It stays in the resampling, as in the paper, or longer responses would win by their length."""
    params = replace(PARAMS, n=2, resample_below=0.0)
    population = weighted(0.1, 0.2)
    made = await make_round(population, [Unfinished(1, population[1], params)], ENDING.ports(), 1)
    finished, grown = made.branches
    assert (finished.parent, finished.step) == (0, None)
    assert finished.log_weight == pytest.approx(0.1 + 1.5 * 0.5)
    assert grown.step is not None
    assert grown.log_weight == pytest.approx(0.2 + 1.5 * grown.step.reward)


async def test_an_unfinished_particle_that_is_not_resampled_is_given_up() -> None:
    """If only finished particles are resampled, the search is over, and one of them is the answer."""
    population = weighted(100.0, 0.0, 0.0)
    unfinished = [Unfinished(place, population[place], PARAMS) for place in (1, 2)]
    assert pick(population, unfinished, 1) == []
    assert await choose(population, PARAMS, UNREAD, 1) == 0
    assert pick(population, unfinished[:1], 1) == []
    assert [one.place for one in pick(weighted(0.0, 0.0, 0.0), unfinished, 1)] == [1, 2]


async def test_the_answer_has_the_highest_weight_or_is_drawn() -> None:
    """Equal weights: the first."""
    params = replace(PARAMS, particle_choice=ParticleChoice.HIGHEST)
    assert await choose(weighted(0.0, 2.0, 1.0), params, UNREAD, 1) == 1
    assert await choose(weighted(1.0, 1.0), params, UNREAD, 1) == 0
    assert len({await choose(weighted(0.0, 0.1, 0.2), PARAMS, UNREAD, seed) for seed in range(40)}) == 3


@pytest.mark.parametrize("weights", ParticleWeights)
async def test_a_candidate_belongs_to_the_particle_before_the_resampling(weights: ParticleWeights) -> None:
    """The record says of each particle and each proposal which trajectory it continues, so that the tree is right."""
    params = replace(PARAMS, n=6, beta=4.0, particle_weights=weights, stop=StopRules(max_steps=4))
    written = await write(params, FIXED.ports(), seed=2, answers=UNREAD)
    populations = written.populations(params)
    assert any(len({branch.parent for branch in made.branches}) < 6 for made in written.rounds)
    for before, made in zip(populations, written.rounds, strict=False):
        written_for = {
            (proposal.parent, candidate.text) for proposal in made.proposals for candidate in proposal.candidates
        }
        texts = {(before[parent].text, text) for parent, text in written_for}
        assert {(before[b.parent].text, b.step.text) for b in made.branches if b.step} == texts
        assert {proposal.source for proposal in made.proposals} == {Source.DRAFT}
        again = StepRecord.from_json(StepRecord.from_round(made, keep_candidates=False).to_json()).to_branches()
        assert [branch.log_weight for branch in again] == [branch.log_weight for branch in made.branches]
