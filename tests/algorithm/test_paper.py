"""The papers' equations and algorithms, held against the code that serves them.

Numbers of sections, equations and theorems are the GSI paper's, and the RSD paper's where "RSD" stands before them.
Sampled laws come from the real ``run_step`` and ``generate`` in enumerable worlds; exact laws from ``exact.py``.
Seeds are fixed, so every test gives the same numbers every time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Params, StopRules
from gsi.algorithm.round import Round
from gsi.algorithm.tilting import log_ratio, tilted_reward
from gsi.algorithm.weighting import (
    WEIGHTINGS,
    Binary,
    Budget,
    Clip,
    Constant,
    Hybrid,
    LikelihoodRatio,
    Logistic,
    NormalisedHybrid,
    Sigmoidal,
    Weighting,
)
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, first_rounds, p_value, steps, written_steps
from tests.algorithm.worlds import START, World, log

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


# --- Section 2: soft best-of-n -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
async def test_soft_best_of_n_on_the_target_follows_its_exact_law(n: int) -> None:
    """Section 2: "weighs each draw by w_i ∝ exp(beta r(x, y_i)), then sample a response y_i" with y_i ~ pi_B."""
    params = Params(method="soft-best-of-n", role=Source.TARGET, n=n, beta=3.0)
    law = exact.soft_best_of_n(WORLD.target, WORLD.reward, params.beta, n)
    drawn = steps(await first_rounds(WORLD, params, NUM_DRAWS))
    assert p_value(dict(enumerate(law)), drawn) > LEAST_P


async def test_soft_best_of_n_on_the_draft_follows_its_exact_law() -> None:
    """Section 4: "S-BoN with pi_S" is the same rule on the draft's candidates; the target has no say."""
    params = Params(method="soft-best-of-n", n=3, beta=3.0)
    law = exact.soft_best_of_n(WORLD.draft, WORLD.reward, params.beta, params.n)
    drawn = steps(await first_rounds(WORLD, params, NUM_DRAWS))
    assert p_value(dict(enumerate(law)), drawn) > LEAST_P


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


@pytest.mark.parametrize(("role", "n"), [(Source.DRAFT, 3), (Source.TARGET, 2)])
async def test_hard_best_of_n_follows_its_exact_law(role: Source, n: int) -> None:
    """RSD, section 3: "process Best-of-N that samples N candidate steps and selects" the best one by reward."""
    model = WORLD.draft if role is Source.DRAFT else WORLD.target
    params = Params(method="best-of-n", role=role, n=n)
    law = exact.best_of_n(model, WORLD.reward, n)
    drawn = steps(await first_rounds(WORLD, params, NUM_DRAWS))
    assert p_value(dict(enumerate(law)), drawn) > LEAST_P


@pytest.mark.parametrize("method", ["draft", "target"])
async def test_a_model_alone_follows_its_own_law(method: str) -> None:
    """RSD, Table 2, "Single Model": one candidate, whatever n is."""
    model = WORLD.draft if method == "draft" else WORLD.target
    drawn = steps(await first_rounds(WORLD, Params(method=method, n=4), NUM_DRAWS))
    assert p_value(dict(enumerate(model)), drawn) > LEAST_P


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
    made = await first_rounds(COVERED, params, NUM_DRAWS)
    assert {m.step.outcome for m in made} == {Outcome.ACCEPTED}
    law = exact.soft_best_of_n(COVERED.draft, exact.tilted_rewards(COVERED, params.beta), params.beta, n)
    assert p_value(dict(enumerate(law)), steps(made)) > LEAST_P


async def test_the_method_without_rejection_is_tilted_soft_best_of_n() -> None:
    """Section 3, steps 1 to 3, and nothing behind them: the policy of Theorem 1, at whatever u."""
    params = Params(method="gsi-no-rejection", n=3, beta=3.0, acceptance_threshold=0.9)
    made = await first_rounds(COVERED, params, NUM_DRAWS)
    assert {m.step.outcome for m in made} == {Outcome.ACCEPTED}
    law = exact.soft_best_of_n(COVERED.draft, exact.tilted_rewards(COVERED, params.beta), params.beta, params.n)
    assert p_value(dict(enumerate(law)), steps(made)) > LEAST_P


async def test_the_tilted_reward_is_computed_for_every_candidate() -> None:
    """Line 4 of Algorithm 1: r~^i <- r(x, y^i) + (log pi_B(y^i | x) - log pi_S(y^i | x)) / beta."""
    params = Params(n=16, beta=3.0)
    tilted = exact.tilted_rewards(WORLD, params.beta)
    for made in await first_rounds(WORLD, params, 50):
        candidates = made.by(Source.DRAFT)[0].candidates
        assert made.tilted_rewards == pytest.approx([tilted[c.token_ids[0]] for c in candidates])


async def test_what_the_draft_never_writes_cannot_be_selected_from_it() -> None:
    """Equation (3), the coverage assumption: without it no n helps, for the draft never proposes the step."""
    world = World(draft=(0.5, 0.5, 0.0), target=(0.1, 0.1, 0.8), reward=(0.1, 0.1, 1.0))
    made = await first_rounds(world, Params(n=8, acceptance_threshold=ALL_ACCEPTED), 200)
    assert exact.optimal(world, 20.0)[2] > 0.99
    assert set(steps(made)) == {0, 1}


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
    made = await first_rounds(WORLD, params, NUM_DRAWS)
    assert p_value(law, written_steps(made)) > LEAST_P


async def test_the_loop_of_algorithm_1_conditions_each_step_on_those_before() -> None:
    """Lines 2, 3 and 7: "for t = 0, 1, ..., until EOS do sample {y_t^i} ~ pi_S(. | x, y)", then append."""
    world = World(
        draft=(0.5, 0.3, 0.2), target=(0.3, 0.3, 0.4), reward=(0.2, 0.6, 0.9), turns=True, ends=frozenset({2})
    )
    params = Params(n=2, beta=3.0, acceptance_threshold=0.5, stop=StopRules(max_steps=2))

    async def forget(made: Round) -> None:
        pass

    draws = []
    for seed in range(8_000):
        answer, _ = await generate(START, params, world.ports(), seed, keep=forget, max_length=100)
        draws.append(answer.token_ids[1:])
    assert p_value(_law_of_two_steps(world, params), draws) > LEAST_P


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
    for made in await first_rounds(WORLD, params, 500):
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
    made = await first_rounds(world, Params(n=1, beta=20.0, acceptance_threshold=u), 200)
    first = [m for m in made if m.by(Source.DRAFT)[0].candidates[0].token_ids == (0,)]
    assert {m.step.outcome for m in first} == {outcome}


def test_defaults_are_those_of_the_paper() -> None:
    """Section 4: "We use beta = 20, u = 0.5 [...], temperature = 0.7, and top_p = 1.0"; n = 16 in Tables 1 and 2."""
    params = Params()
    assert (params.method, params.n, params.num_target_candidates) == ("gsi", 16, 16)
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


# --- RSD: the mixture --------------------------------------------------------------------------------------------

# What RSD's Table 1 and section 2.4 print, written anew: (reward, pi_M / pi_m) -> weight. The normalised hybrid is not
# printed: this is docs/methods.md's. A budget has no context at n = 1, where it is a coin.
PRINTED: Mapping[str, tuple[Weighting, Callable[[float, float], float]]] = {
    "constant": (Constant(0.3), lambda r, ratio: 0.3),
    "binary": (Binary(0.5), lambda r, ratio: float(r >= 0.5)),
    "clip": (Clip(), lambda r, ratio: min(1, max(0, r))),
    "sigmoidal": (Sigmoidal(), lambda r, ratio: max(0, r / (1 + r))),
    "logistic": (Logistic(4.0, 0.5), lambda r, ratio: 1 / (1 + math.exp(-4 * (r - 0.5)))),
    "likelihood-ratio": (LikelihoodRatio(0.8), lambda r, ratio: min(1, 0.8 * ratio)),
    "hybrid": (Hybrid(1.5), lambda r, ratio: min(1, 1.5 * r * ratio)),
    "normalised-hybrid": (
        NormalisedHybrid(4.0, 0.5),
        lambda r, ratio: math.exp(4 * r) * ratio / (math.exp(4 * r) * ratio + math.exp(4 * 0.5)),
    ),
    "budget": (Budget(0.4), lambda r, ratio: 0.6),
}


def printed_weights(world: World, formula: Callable[[float, float], float]) -> list[float]:
    return [formula(r, t / d) for r, t, d in zip(world.reward, world.target, world.draft, strict=True)]


def test_every_weighting_has_its_formula_here() -> None:
    """A new one cannot be forgotten."""
    assert set(PRINTED) == set(WEIGHTINGS)


@pytest.mark.parametrize("name", PRINTED)
async def test_rsd_proposition_2_1(name: str) -> None:
    """RSD, Proposition 2.1: P_RSD = w P_m + nu P_M with nu = 1 - E_{P_m}[w], term by term: who wrote the step, too."""
    rule, formula = PRINTED[name]
    law = exact.rsd(WORLD, printed_weights(WORLD, formula))
    made = await first_rounds(WORLD, Params(method="rsd", n=1, weighting=rule), NUM_DRAWS)
    assert p_value(law, written_steps(made)) > LEAST_P


def test_the_terms_of_rsd_proposition_2_1() -> None:
    """RSD, equation (2), with the terms spelled out: what the tests above compare with."""
    weights = [0.1, 0.9, 0.5, 0.0, 1.0]
    nu = 1 - exact.expectation(WORLD.draft, weights)
    mixture = [w * small + nu * large for w, small, large in zip(weights, WORLD.draft, WORLD.target, strict=True)]
    assert exact.of_steps(exact.rsd(WORLD, weights), WORLD) == pytest.approx(mixture)
    assert sum(mixture) == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "n_target", "name"),
    [(3, None, "binary"), (2, 3, "logistic"), (3, 1, "hybrid"), (2, None, "normalised-hybrid")],
)
async def test_rsd_with_several_candidates_follows_its_exact_law(n: int, n_target: int | None, name: str) -> None:
    """Section 4, the comparison with RSD: soft best-of-n on the draft, the weighting, soft best-of-n on the target."""
    rule, formula = PRINTED[name]
    params = Params(method="rsd", n=n, n_target=n_target, beta=3.0, weighting=rule)
    law = exact.rsd(WORLD, printed_weights(WORLD, formula), beta=params.beta, n=n, n_target=n_target)
    made = await first_rounds(WORLD, params, NUM_DRAWS)
    assert p_value(law, written_steps(made)) > LEAST_P


async def test_rsd_algorithm_2_leaves_nothing_to_chance_at_weights_0_and_1() -> None:
    """RSD, Algorithm 2: "if omega(r) = 0 or 1", and section 2.3: "a definite acceptance or rejection outcome"."""
    for made in await first_rounds(WORLD, Params(method="rsd", n=1, weighting=Binary(0.6)), 1000):
        drafted = made.by(Source.DRAFT)[0].candidates[0].token_ids[0]
        assert (made.step.outcome is Outcome.ACCEPTED) == (WORLD.reward[drafted] >= 0.6)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a world of two to five steps in which the draft may write every step."""
    k = draw(st.integers(2, 5))
    shares = st.lists(st.integers(1, 20), min_size=k, max_size=k)
    rewards = st.lists(st.integers(0, 20), min_size=k, max_size=k)
    draft, target, reward = draw(shares), draw(shares), draw(rewards)
    return World(exact.normalised(draft), exact.normalised(target), [r / 20 for r in reward])


NON_DECREASING = st.one_of(
    st.builds(Constant, st.floats(0, 1)),
    st.builds(Binary, st.floats(-0.1, 1.1)),
    st.just(Clip()),
    st.just(Sigmoidal()),
    st.builds(Logistic, st.floats(0.01, 100), st.floats(0, 1)),
)


def is_better_on_average(world: World) -> bool:
    """Return whether E_{P_M}[r] >= E_{P_m}[r]: RSD, equation (1)."""
    return exact.expectation(world.target, world.reward) >= exact.expectation(world.draft, world.reward)


@given(worlds(), NON_DECREASING)
def test_rsd_proposition_2_2(world: World, rule: Weighting) -> None:
    """RSD, Proposition 2.2: w non-decreasing in r and E_{P_M}[r] >= E_{P_m}[r] imply E_{P_RSD}[r] >= E_{P_m}[r]."""
    assume(is_better_on_average(world))
    weights = [rule.weight(r, math.nan) for r in world.reward]
    assert exact.rsd_reward(world, weights) >= exact.expectation(world.draft, world.reward) - 1e-12


def test_rsd_proposition_2_2_needs_a_weighting_that_does_not_fall_in_r() -> None:
    """The likelihood ratio of RSD, section 2.4, is none: here it throws the draft's best step away, and P_RSD loses."""
    world = World(draft=(0.3, 0.3, 0.4), target=(0.2, 0.8, 0.0), reward=(0.0, 0.5, 0.6))
    assert is_better_on_average(world)
    weights = printed_weights(world, lambda r, ratio: min(1, ratio))
    assert exact.rsd_reward(world, weights) < exact.expectation(world.draft, world.reward) - 0.01


# RSD, Proposition 2.3. With R = E_{P_M}[r], E_{P_RSD}[r] = R + E_{P_m}[w (r - R)]: to accept a step better than R adds
# to the reward, and one below R is accepted only because the budget nu <= gamma forces it. So what holds is
#   - among weightings of equal nu, the binary one is best, at every threshold and in every world;
#   - among weightings of at most its nu, it is best if its threshold is at most R.
# The paper's "largest possible threshold" is best where the budget binds (it is at most R) and can be met exactly (no
# step weighs more than what is left of it). The proof's lambda should stand with the other sign: its threshold
# lambda + R would be at least R, whatever the budget.


def binary_weights(world: World, delta: float) -> list[float]:
    return [Binary(delta).weight(r, math.nan) for r in world.reward]


def nu(world: World, weights: Sequence[float]) -> float:
    """Return how often the target writes the step."""
    return 1 - exact.expectation(world.draft, weights)


def largest_threshold(world: World, gamma: float) -> float:
    """Return delta_gamma of RSD, Proposition 2.3: "the largest possible threshold" by which nu <= gamma."""
    return max(delta for delta in world.reward if nu(world, binary_weights(world, delta)) <= gamma)


def at_nu(world: World, weights: Sequence[float], wanted: float) -> list[float]:
    """Return weights moved towards 1, or towards 0, until the target writes the step as often as wanted."""
    now = nu(world, weights)
    if now > wanted:
        return [1 - (1 - w) * wanted / now for w in weights]
    return [w * (1 - wanted) / (1 - now) if now < 1 else w for w in weights]


unit_weights = st.lists(st.floats(0, 1), min_size=5, max_size=5)


@given(worlds(), unit_weights, st.integers(0, 4))
def test_rsd_proposition_2_3_among_weightings_of_equal_nu(world: World, weights: list[float], which: int) -> None:
    """RSD, Proposition 2.3, where the target writes as often: no weighting has a higher reward than the binary one."""
    binary = binary_weights(world, world.reward[which % len(world.reward)])
    other = at_nu(world, weights[: len(world.reward)], nu(world, binary))
    assert nu(world, other) == pytest.approx(nu(world, binary), abs=1e-9)
    assert exact.rsd_reward(world, binary) >= exact.rsd_reward(world, other) - 1e-9


@given(worlds(), unit_weights, st.integers(0, 4), st.floats(0, 1))
def test_rsd_proposition_2_3_within_a_budget_that_binds(
    world: World, weights: list[float], which: int, share: float
) -> None:
    """RSD, Proposition 2.3, at a threshold of at most E_{P_M}[r]: nothing that asks the target less often is better."""
    delta = world.reward[which % len(world.reward)]
    assume(delta <= exact.expectation(world.target, world.reward))
    binary = binary_weights(world, delta)
    other = at_nu(world, weights[: len(world.reward)], share * nu(world, binary))
    assert exact.rsd_reward(world, binary) >= exact.rsd_reward(world, other) - 1e-9


def test_rsd_proposition_2_3_does_not_hold_where_the_budget_is_larger_than_is_good() -> None:
    """The largest threshold throws away steps of the draft that are better than what the target writes in their place.

    E_{P_M}[r] = 0.6 >= E_{P_m}[r] = 0.54, and gamma = 0.7 allows the threshold 1. But r = 0.8 is better than 0.6.
    """
    world = World(draft=(0.4, 0.3, 0.3), target=(0.3, 0.5, 0.2), reward=(0.0, 0.8, 1.0))
    assert is_better_on_average(world)
    assert largest_threshold(world, gamma=0.7) == 1.0
    assert exact.rsd_reward(world, binary_weights(world, 1.0)) == pytest.approx(0.72)
    assert exact.rsd_reward(world, binary_weights(world, 0.8)) == pytest.approx(0.78)
    assert nu(world, binary_weights(world, 0.8)) < nu(world, binary_weights(world, 1.0)) <= 0.7


def test_rsd_proposition_2_3_does_not_hold_where_the_budget_is_met_inside_a_step() -> None:
    """Of two steps the binary weighting accepts both or one; accepting one of them now and then spends all of gamma."""
    world = World(draft=(0.5, 0.5), target=(0.4, 0.6), reward=(0.0, 1.0))
    assert is_better_on_average(world)
    assert largest_threshold(world, gamma=0.3) == 0.0
    now_and_then = [0.4, 1.0]
    assert nu(world, now_and_then) == pytest.approx(0.3)
    assert exact.rsd_reward(world, binary_weights(world, 0.0)) == pytest.approx(0.5)
    assert exact.rsd_reward(world, now_and_then) == pytest.approx(0.68)
