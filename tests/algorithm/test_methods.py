"""What methods say of themselves; those that keep one trajectory: which models each asks, what is on record."""

import math
from dataclasses import replace

import pytest

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, Scope
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import uniform
from gsi.algorithm.weighting import WEIGHTINGS, Binary, Constant, LikelihoodRatio
from tests.algorithm.worlds import LETTERS, START, Unasked, World, log, make_first_round

WORLD = World(draft=(0.5, 0.3, 0.2), target=(0.2, 0.3, 0.5), reward=(0.2, 0.5, 0.9))


async def first_step(params: Params, seed: int = 1, world: World = WORLD) -> Round:
    return await make_first_round(params, world.ports(), seed)


# --- What a method says of itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", METHODS)
async def test_a_method_chooses_as_it_says(name: str, scope: Scope) -> None:
    """By what a ``Method`` says, the web page explains why a candidate was kept.

    A search selects no candidate in its rounds. Another method writes several candidates if it reads n, draws by their
    tilted rewards if it says so, and rejects some steps of the draft if it can.
    """
    method, params = METHODS[name], Params(method=name, n=4, scope=scope)
    after_good_step = START.extend((await first_step(Params(method="best-of-n", n=16))).step)
    made = [
        await make_first_round(params, WORLD.ports(), seed, start)
        for seed in range(50)
        for start in (START, after_good_step)
    ]
    proposals = [proposal for each in made for proposal in each.proposals]
    if method.is_search(params):
        assert {proposal.selected for proposal in proposals} == {None}
        return
    assert None not in {proposal.selected for proposal in proposals}
    assert {len(proposal.candidates) for proposal in proposals} == {4 if "n" in method.parameters else 1}
    assert any(each.tilted_rewards for each in made) is method.draws_tilted
    assert any(each.step.rejected is not None for each in made) is method.can_reject


# --- One model alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "source"),
    [
        ("draft", Source.DRAFT),
        ("target", Source.TARGET),
        ("speculative-decoding", Source.TARGET),
    ],
)
async def test_one_model_alone_writes_one_candidate_and_nobody_rates_it(method: str, source: Source) -> None:
    """Whatever n is; its reward is no number, and neither the other model nor the PRM is asked."""
    ports = replace(WORLD.ports(), prm=Unasked())
    alone = replace(ports, target=Unasked()) if source is Source.DRAFT else replace(ports, draft=Unasked())
    made = await make_first_round(Params(method=method, n=16), alone)
    assert (made.step.source, made.step.outcome, made.step.rejected) == (source, Outcome.ACCEPTED, None)
    assert [len(proposal.candidates) for proposal in made.proposals] == [1]
    assert math.isnan(made.step.reward)
    assert math.isnan(made.step.best_reward)
    law = WORLD.draft if source is Source.DRAFT else WORLD.target
    own, other = made.step.log_likelihood_draft, made.step.log_likelihood_target
    if source is Source.TARGET:
        own, other = other, own
    assert (own, other) == (log(law[made.step.token_ids[0]]), None)


async def test_speculative_decoding_writes_what_the_target_alone_does() -> None:
    """The difference is in the target's engine; equal seeds give equal steps."""
    for seed in range(20):
        alone = await first_step(Params(method="target"), seed)
        assert (await first_step(Params(method="speculative-decoding"), seed)).step == alone.step


# --- Best-of-n ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Source)
async def test_hard_best_of_n_keeps_a_candidate_of_the_highest_reward(role: Source) -> None:
    """The first of them, and only one model writes."""
    world = replace(WORLD, reward=(0.2, 0.5, 0.5))
    for seed in range(50):
        made = await first_step(Params(method="best-of-n", n=4, role=role), seed, world)
        rewards = made.proposals[0].rewards
        assert made.step.reward == made.step.best_reward == max(rewards)
        assert made.proposals[0].selected == rewards.index(max(rewards))
        assert [proposal.source for proposal in made.proposals] == [role]


async def test_soft_best_of_n_tends_to_hard_best_of_n_as_beta_grows() -> None:
    """At beta = 10^6 the better of two rewards always wins."""
    for seed in range(50):
        soft = await first_step(Params(method="soft-best-of-n", n=4, beta=1e6), seed)
        hard = await first_step(Params(method="best-of-n", n=4), seed)
        assert soft.step.reward == hard.step.reward


# --- GSI without rejection ----------------------------------------------------------------------------------------


async def test_gsi_without_rejection_selects_what_gsi_does_and_keeps_it() -> None:
    """The same candidates and the same draw; only line 6 of Algorithm 1 is left out."""
    params = Params(n=4, acceptance_threshold=0.6)
    outcomes = set()
    for seed in range(50):
        with_test = await first_step(params, seed)
        made = await first_step(replace(params, method="gsi-no-rejection"), seed)
        assert (made.step.source, made.step.outcome) == (Source.DRAFT, Outcome.ACCEPTED)
        assert made.tilted_rewards == with_test.tilted_rewards
        selected = with_test.step.text if with_test.step.rejected is None else with_test.step.rejected.text
        assert made.step.text == selected
        outcomes.add(with_test.step.outcome)
    assert outcomes == set(Outcome)


# --- RSD ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEIGHTINGS)
async def test_rsd_asks_the_target_for_likelihoods_only_where_its_rule_needs_them(name: str) -> None:
    """A step that is accepted by its reward costs the target nothing: RSD's point."""
    rule = WEIGHTINGS[name]()
    for seed in range(10):
        made = await first_step(Params(method="rsd", n=2, weighting=rule), seed)
        assert ("target" in made.by(Source.DRAFT)[0].scores) is rule.needs_log_ratio
        assert made.tilted_rewards == ()
        assert made.step.tilted_reward is None


async def test_an_accepted_step_of_rsd_never_asks_the_target() -> None:
    """Not even whether it is there."""
    params = Params(method="rsd", n=2, weighting=Constant(1.0))
    made = await make_first_round(params, replace(WORLD.ports(), target=Unasked()))
    assert (made.step.source, made.step.log_likelihood_target) == (Source.DRAFT, None)


async def test_what_rsd_rejected_is_on_record() -> None:
    """With the numbers that were asked for: by rewards alone there is no likelihood of the target."""
    blind = (await first_step(Params(method="rsd", n=1, weighting=Binary(2.0)))).step
    assert (blind.source, blind.outcome) == (Source.TARGET, Outcome.RESAMPLED)
    assert blind.rejected is not None
    y = LETTERS.index(blind.rejected.text)
    assert (blind.rejected.reward, blind.rejected.log_likelihood_draft) == (WORLD.reward[y], log(WORLD.draft[y]))
    assert (blind.rejected.tilted_reward, blind.rejected.log_likelihood_target) == (None, None)
    seeing = (await first_step(Params(method="rsd", n=1, weighting=LikelihoodRatio(1e-9)))).step
    assert seeing.rejected is not None
    assert seeing.rejected.log_likelihood_target == log(WORLD.target[LETTERS.index(seeing.rejected.text)])


async def test_rsd_accepts_with_a_number_of_its_own() -> None:
    """Not the one that selects a candidate: or the high ranks would be the rejected ones."""
    params = Params(method="rsd", n=2, weighting=Constant(0.5))
    for seed in range(50):
        made = await first_step(params, seed)
        assert (made.step.outcome is Outcome.ACCEPTED) == (uniform(seed, 0, Source.DRAFT, "accept") < 0.5)
    selecting = [uniform(seed, 0, Source.DRAFT, "select") < 0.5 for seed in range(50)]
    assert selecting != [uniform(seed, 0, Source.DRAFT, "accept") < 0.5 for seed in range(50)]


async def test_a_draft_candidate_that_the_target_never_writes_is_resampled_by_the_likelihood_ratio() -> None:
    """log(pi_B / pi_S) = -inf weighs 0."""
    world = World(draft=(1.0, 0.0), target=(0.0, 1.0), reward=(1.0, 0.1))
    step = (await first_step(Params(method="rsd", n=2, weighting=LikelihoodRatio(1e9)), world=world)).step
    assert (step.outcome, step.text) == (Outcome.RESAMPLED, "b")
    assert step.rejected is not None
    assert step.rejected.log_likelihood_target == -math.inf
