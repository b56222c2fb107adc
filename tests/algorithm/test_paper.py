"""The paper's equations and the lines of Algorithm 1, held against the code that serves them.

Sampled laws come from the real ``run_step`` and ``generate`` in enumerable worlds; exact laws from ``exact.py``.
Seeds are fixed, so every test gives the same numbers every time.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest
from scipy.stats import chisquare

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.generate import generate
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Method, Params, StopRules
from gsi.algorithm.step import MadeStep
from gsi.algorithm.tilting import log_ratio, tilted_reward
from tests.algorithm import exact
from tests.algorithm.worlds import START, World, log

T = TypeVar("T", bound=Hashable)

NUM_DRAWS = 20_000
ALL_ACCEPTED = -1e6  # a threshold below every tilted reward

# The target favours what the draft seldom writes, and never writes one of the draft's steps ("e").
WORLD = World(
    draft=(0.40, 0.25, 0.15, 0.10, 0.10),
    target=(0.10, 0.20, 0.30, 0.40, 0.00),
    reward=(0.30, 0.90, 0.60, 0.10, 0.95),
)
COVERED = replace(WORLD, target=(0.10, 0.20, 0.30, 0.25, 0.15))

# (world, beta) in which the n of Theorem 1 is small enough to enumerate.
THEOREM_WORLDS = [
    (World(draft=(0.7, 0.3), target=(0.4, 0.6), reward=(0.2, 1.0)), 1.0),
    (World(draft=(0.2, 0.8), target=(0.5, 0.5), reward=(0.9, 0.1)), 0.5),
    (World(draft=(0.5, 0.5), target=(0.5, 0.5), reward=(0.0, 1.0)), 1.5),
    (World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.1, 0.5, 0.6)), 1.0),
]


async def steps_of(world: World, params: Params, num_draws: int = NUM_DRAWS) -> list[MadeStep]:
    """Make the first step of ``num_draws`` jobs, which differ in their seeds only."""
    ports, make_step = world.ports(), METHODS[params.method]
    return [await make_step(START, params, ports, seed) for seed in range(num_draws)]


def kept(made: Sequence[MadeStep]) -> list[int]:
    return [m.step.token_ids[0] for m in made]


def assert_drawn_from(law: Mapping[T, float], draws: Sequence[T]) -> None:
    """Chi-square test that the draws follow the law, and none is impossible."""
    observed = Counter(draws)
    possible = [outcome for outcome, probability in law.items() if probability > 0]
    assert set(observed) <= set(possible)
    assert math.isclose(sum(law.values()), 1)
    expected = [law[outcome] * len(draws) for outcome in possible]
    assert min(expected) > 5, "too few draws for the chi-square test"
    assert chisquare([observed[outcome] for outcome in possible], expected).pvalue > 1e-4


# --- Section 2: soft best-of-n -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
async def test_soft_best_of_n_on_the_target_follows_its_exact_law(n: int) -> None:
    """Section 2: "weighs each draw by w_i ∝ exp(beta r(x, y_i)), then sample a response y_i" with y_i ~ pi_B."""
    params = Params(method=Method.SOFT_BEST_OF_N, role=Source.TARGET, n=n, beta=3.0)
    law = exact.soft_best_of_n(WORLD.target, WORLD.reward, params.beta, n)
    assert_drawn_from(dict(enumerate(law)), kept(await steps_of(WORLD, params)))


async def test_soft_best_of_n_on_the_draft_follows_its_exact_law() -> None:
    """Section 4: "S-BoN with pi_S" is the same rule on the draft's candidates; the target has no say."""
    params = Params(method=Method.SOFT_BEST_OF_N, n=3, beta=3.0)
    law = exact.soft_best_of_n(WORLD.draft, WORLD.reward, params.beta, params.n)
    assert_drawn_from(dict(enumerate(law)), kept(await steps_of(WORLD, params)))


@pytest.mark.parametrize(("world", "beta"), THEOREM_WORLDS)
def test_soft_best_of_n_is_within_the_bound_of_equation_2(world: World, beta: float) -> None:
    """Equation (2): KL(pi_{beta,B} || pi^{r,n}_{beta,B}) <= log(1 + Var[e^{beta r}] / (n E[e^{beta r}]^2))."""
    weights = [math.exp(beta * r) for r in world.reward]
    mean = exact.expectation(world.target, weights)
    variance = exact.expectation(world.target, [(w - mean) ** 2 for w in weights])
    for n in (1, 2, 5, 20, 80):
        law = exact.soft_best_of_many(world.target, world.reward, beta, n)
        bound = math.log(1 + variance / (n * mean**2))
        assert 0 <= exact.kl_divergence(exact.optimal(world, beta), law) <= bound


# --- Section 3: the tilted reward --------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 3.0, 20.0])
def test_the_optimal_policy_is_the_draft_tilted_by_the_tilted_reward(beta: float) -> None:
    """Section 3: pi_{beta,B}(y | x) = pi_S exp(beta r + log(pi_B / pi_S)) / Z_{beta,B}, for every y."""
    ratios = [log_ratio(log(b), log(s)) for b, s in zip(WORLD.target, WORLD.draft, strict=True)]
    tilted = [tilted_reward(r, ratio, beta) for r, ratio in zip(WORLD.reward, ratios, strict=True)]
    rewritten = exact.normalised([s * math.exp(beta * t) for s, t in zip(WORLD.draft, tilted, strict=True)])
    assert rewritten == pytest.approx(exact.optimal(WORLD, beta), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3])
async def test_tilted_soft_best_of_n_follows_its_exact_law(n: int) -> None:
    """Section 3: "1. sample y_1..y_n ~ pi_S  2. compute r~_i  3. sample y_i ∝ exp(beta r~_i)"."""
    params = Params(n=n, beta=3.0, acceptance_threshold=ALL_ACCEPTED)
    made = await steps_of(COVERED, params)
    assert {m.step.outcome for m in made} == {Outcome.ACCEPTED}
    law = exact.soft_best_of_n(COVERED.draft, exact.tilted_rewards(COVERED, params.beta), params.beta, n)
    assert_drawn_from(dict(enumerate(law)), kept(made))


async def test_the_tilted_reward_is_computed_for_every_candidate() -> None:
    """Line 4 of Algorithm 1: r~^i <- r(x, y^i) + (log pi_B(y^i | x) - log pi_S(y^i | x)) / beta."""
    params = Params(n=16, beta=3.0)
    tilted = exact.tilted_rewards(WORLD, params.beta)
    for made in await steps_of(WORLD, params, num_draws=50):
        candidates = made.by(Source.DRAFT)[0].candidates
        assert made.tilted_rewards == pytest.approx([tilted[c.token_ids[0]] for c in candidates])


async def test_what_the_draft_never_writes_cannot_be_selected_from_it() -> None:
    """Equation (3), the coverage assumption: without it no n helps, for the draft never proposes the step."""
    world = World(draft=(0.5, 0.5, 0.0), target=(0.1, 0.1, 0.8), reward=(0.1, 0.1, 1.0))
    made = await steps_of(world, Params(n=8, acceptance_threshold=ALL_ACCEPTED), num_draws=200)
    assert exact.optimal(world, 20.0)[2] > 0.99
    assert set(kept(made)) == {0, 1}


# --- Theorem 1 ---------------------------------------------------------------------------------------------------


def theorem_1_n(world: World, beta: float, epsilon: float) -> int:
    """Return the least n of Theorem 1: ((chi^2(pi_B || pi_S) + 1) e^{2 beta ||r||} - 1) / (e^epsilon - 1)."""
    distance = exact.chi_square_divergence(world.target, world.draft) + 1
    return math.ceil((distance * math.exp(2 * beta * max(world.reward)) - 1) / (math.exp(epsilon) - 1))


def divergence(world: World, beta: float, n: int) -> float:
    """Return KL(pi_{beta,B} || pi~^{r~,n}_{beta,S}), exactly."""
    law = exact.soft_best_of_many(world.draft, exact.tilted_rewards(world, beta), beta, n)
    return exact.kl_divergence(exact.optimal(world, beta), law)


def test_counting_steps_and_enumerating_draws_give_the_same_law() -> None:
    """The law for a large n is computed from counts; where both can be computed they agree."""
    for world, beta in THEOREM_WORLDS:
        tilted = exact.tilted_rewards(world, beta)
        by_draws = exact.soft_best_of_n(world.draft, tilted, beta, n=5)
        assert exact.soft_best_of_many(world.draft, tilted, beta, n=5) == pytest.approx(by_draws)


@pytest.mark.parametrize(("world", "beta"), THEOREM_WORLDS)
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0])
def test_theorem_1_holds_at_its_n(world: World, beta: float, epsilon: float) -> None:
    """Theorem 1: n >= ((chi^2 + 1) e^{2 beta ||r||} - 1) / (e^epsilon - 1) implies KL <= epsilon."""
    assert divergence(world, beta, theorem_1_n(world, beta, epsilon)) <= epsilon


@pytest.mark.parametrize(("world", "beta"), THEOREM_WORLDS)
def test_the_divergence_of_theorem_1_falls_as_n_grows(world: World, beta: float) -> None:
    """Theorem 1 needs its n: one candidate misses epsilon = 0.05, and every doubling of n comes closer."""
    divergences = [divergence(world, beta, 2**k) for k in range(7)]
    assert divergences[0] > 0.05
    assert all(later < earlier for earlier, later in pairwise(divergences))
    assert divergences[-1] < 0.01


# --- Algorithm 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_target"), [(2, None), (3, 1)])
async def test_algorithm_1_follows_its_exact_law_in_both_branches(n: int, n_target: int | None) -> None:
    """Lines 3 to 12 of Algorithm 1, as the law of (who wrote the step, which step). Section 3: n may differ."""
    params = Params(n=n, n_target=n_target, beta=3.0, acceptance_threshold=0.5)
    law = exact.algorithm_1(WORLD, params.beta, u=0.5, n=n, n_target=n_target or n)
    assert 0.1 < sum(p for (source, _), p in law.items() if source is Source.TARGET) < 0.9
    made = await steps_of(WORLD, params)
    assert_drawn_from(law, [(m.step.source, m.step.token_ids[0]) for m in made])


async def test_the_loop_of_algorithm_1_conditions_each_step_on_those_before() -> None:
    """Lines 2, 3 and 7: "for t = 0, 1, ..., until EOS do sample {y_t^i} ~ pi_S(. | x, y)", then append."""
    world = World(
        draft=(0.5, 0.3, 0.2), target=(0.3, 0.3, 0.4), reward=(0.2, 0.6, 0.9), turns=True, ends=frozenset({2})
    )
    params = Params(n=2, beta=3.0, acceptance_threshold=0.5, stop=StopRules(max_steps=2))

    async def forget(made: MadeStep) -> None:
        pass

    draws = []
    for seed in range(8_000):
        answer, _ = await generate(START, params, world.ports(), seed, keep=forget, max_length=100)
        draws.append(answer.token_ids[1:])
    assert_drawn_from(_law_of_two_steps(world, params), draws)


def _law_of_two_steps(world: World, params: Params) -> dict[tuple[int, ...], float]:
    laws = []
    for num_steps in (0, 1):
        draft, target, reward = (world.after(table, num_steps) for table in (world.draft, world.target, world.reward))
        law = exact.algorithm_1(
            World(draft, target, reward), params.beta, params.acceptance_threshold, params.n, params.n
        )
        laws.append([law[Source.DRAFT, y] + law[Source.TARGET, y] for y in world.steps])
    first, second = laws
    one_step: dict[tuple[int, ...], float] = {(y,): first[y] for y in world.ends}
    return one_step | {(y, z): first[y] * second[z] for y in world.steps if y not in world.ends for z in world.steps}


async def test_acceptance_is_asked_of_the_selected_candidate() -> None:
    """Line 6: "if r~^c >= u" with c the index sampled in line 5, not the best candidate nor the average."""
    params = Params(n=4, beta=1.0, acceptance_threshold=0.5)
    tilted = exact.tilted_rewards(WORLD, params.beta)
    better_one_lost = 0
    for made in await steps_of(WORLD, params, num_draws=500):
        if made.step.rejected is None:
            assert made.step.tilted_reward == pytest.approx(tilted[made.step.token_ids[0]])
            assert tilted[made.step.token_ids[0]] >= params.acceptance_threshold
        else:
            assert (made.step.rejected.tilted_reward or 0.0) < params.acceptance_threshold
            better_one_lost += max(made.tilted_rewards) >= params.acceptance_threshold
    assert better_one_lost > 0


@pytest.mark.parametrize(
    ("reward", "draft", "target", "u", "outcome"),
    [
        pytest.param(0.6, 0.5, 0.5, 0.5, Outcome.ACCEPTED, id="no ratio, above"),
        pytest.param(0.6, 0.5, 0.5, 0.7, Outcome.RESAMPLED, id="beta r is 12, r is 0.6: below"),
        pytest.param(0.6, 0.9, 0.9 * math.exp(-4), 0.5, Outcome.RESAMPLED, id="0.6 - 4/20: the ratio pulls it below"),
        pytest.param(0.4, 0.9 * math.exp(-4), 0.9, 0.5, Outcome.ACCEPTED, id="0.4 + 4/20: the ratio lifts it above"),
    ],
)
async def test_the_threshold_is_on_the_scale_of_the_reward(
    reward: float, draft: float, target: float, u: float, outcome: Outcome
) -> None:
    """Line 6: u is compared with r~ = r + log(pi_B / pi_S) / beta, neither with beta r~ nor with r alone."""
    world = World(draft=(draft, 1 - draft), target=(target, 1 - target), reward=(reward, reward))
    made = await steps_of(world, Params(n=1, beta=20.0, acceptance_threshold=u), num_draws=200)
    first = [m for m in made if m.by(Source.DRAFT)[0].candidates[0].token_ids == (0,)]
    assert {m.step.outcome for m in first} == {outcome}


def test_defaults_are_those_of_the_paper() -> None:
    """Section 4: "We use beta = 20, u = 0.5 [...], temperature = 0.7, and top_p = 1.0"; n = 16 in Tables 1 and 2."""
    params = Params()
    assert (params.method, params.n, params.num_target_candidates) == (Method.GSI, 16, 16)
    assert (params.beta, params.acceptance_threshold) == (20.0, 0.5)
    assert (params.sampling.temperature, params.sampling.top_p) == (0.7, 1.0)


# --- Theorem 2 ---------------------------------------------------------------------------------------------------


def algorithm_1_law(world: World, beta: float, u: float, n: int) -> tuple[list[float], float]:
    """Return pi_GSI for a large n, and p(u), the probability of acceptance."""
    tilted = exact.tilted_rewards(world, beta)
    selected = exact.soft_best_of_many(world.draft, tilted, beta, n)
    accepted = [p if t >= u else 0.0 for p, t in zip(selected, tilted, strict=True)]
    anew = exact.soft_best_of_many(world.target, world.reward, beta, n)
    return [a + (1 - sum(accepted)) * b for a, b in zip(accepted, anew, strict=True)], sum(accepted)


def reward_gap(world: World, beta: float, u: float, n: int) -> float:
    """Return E_{pi_{beta,B}}[r*] - E_{pi_GSI}[r*] with r* = r."""
    law, _ = algorithm_1_law(world, beta, u, n)
    return exact.expectation(exact.optimal(world, beta), world.reward) - exact.expectation(law, world.reward)


def theorem_2_bound(world: World, beta: float, u: float, n: int) -> float:
    """Return ||r*|| / sqrt(n) [p(u)^1/2 e^{beta ||r||} (chi^2 + 1)^1/2 + (1 - p(u)) (CV(e^{beta r})^2 + 1)^1/2]."""
    _, p = algorithm_1_law(world, beta, u, n)
    weights = [math.exp(beta * r) for r in world.reward]
    cv_squared = (
        exact.expectation(world.target, [w**2 for w in weights]) / (exact.expectation(world.target, weights) ** 2) - 1
    )
    distance = exact.chi_square_divergence(world.target, world.draft) + 1
    accepted = math.sqrt(p * distance) * math.exp(beta * max(world.reward))
    return max(world.reward) / math.sqrt(n) * (accepted + (1 - p) * math.sqrt(cv_squared + 1))


@pytest.mark.parametrize(("world", "beta"), THEOREM_WORLDS)
@pytest.mark.parametrize("u", [ALL_ACCEPTED, -ALL_ACCEPTED])
def test_theorem_2_holds_where_one_branch_decides(world: World, beta: float, u: float) -> None:
    """Theorem 2: E_{pi_{beta,B}}[r*] - E_{pi_GSI}[r*] is within its bound and goes to 0 as n grows."""
    gaps = {n: reward_gap(world, beta, u, n) for n in (1, 4, 16, 64)}
    assert all(gap <= theorem_2_bound(world, beta, u, n) for n, gap in gaps.items())
    sizes = [abs(gap) for gap in gaps.values()]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(sizes))
    assert sizes[-1] < 0.01


def test_the_limit_of_algorithm_1_with_both_branches_is_not_the_optimal_policy() -> None:
    """Theorem 2 claims more than holds: as n grows, pi_GSI(y) -> pi_{beta,B}(y) (1[r~(y) >= u] + 1 - p(u)).

    Here the better step is likelier under the draft, so it is always rejected, and resampling restores a part of it:
    the gap stays, and passes the bound.
    """
    world, beta, u = World(draft=(0.9, 0.1), target=(0.5, 0.5), reward=(1.0, 0.2)), 1.0, 1.0
    best = exact.optimal(world, beta)
    passes = [t >= u for t in exact.tilted_rewards(world, beta)]
    assert passes == [False, True]
    p = exact.expectation(best, passes)
    law, _ = algorithm_1_law(world, beta, u, n=2000)
    assert law == pytest.approx([b * (ok + 1 - p) for b, ok in zip(best, passes, strict=True)], abs=1e-3)
    assert reward_gap(world, beta, u, n=2000) > 2 * theorem_2_bound(world, beta, u, n=2000)
