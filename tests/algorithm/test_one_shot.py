"""GSI and soft best-of-n with the whole response as the step, held against the laws of the paper's sections 2 and 3.

Section 2: soft and hard best-of-n "can be applied both to one-shot generation (where the complete response [is]
generated in one step) or reasoning tasks". Section 3: "GSI is, in theory, applicable to one-shot generation tasks".
A response of two steps is one step of a world whose steps are responses, so ``exact.py`` has its law.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.lookahead import Lookahead, look_ahead
from gsi.algorithm.methods import METHODS
from gsi.algorithm.n_rule import NRule, PandoraRule, ThresholdRule, part_ends
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from gsi.algorithm.parts import aggregate_rewards, tilted_score
from gsi.algorithm.stopping import JobRules
from gsi.jobs.step_record import StepRecord
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.searching import UNREAD, trajectory, write
from tests.algorithm.worlds import LETTERS, START, World

# "b" is the end, so a response is "b", "aa" or "ab".
WORLD = World(draft=(0.6, 0.4), target=(0.3, 0.7), reward=(0.3, 0.8), turns=True, ends=frozenset({1}))
RESPONSES = ("b", "aa", "ab")
PARAMS = Params(
    method="gsi", scope=Scope.RESPONSES, n=2, beta=2.0, acceptance_threshold=0.5, stop=StopRules(max_steps=2)
)
NUM_DRAWS = 2_000


def probability(table: Sequence[float], response: str) -> float:
    """Return the product of the probabilities of a response's steps."""
    laws = [WORLD.after(table, place) for place in range(len(response))]
    return math.prod(law[LETTERS.index(letter)] for law, letter in zip(laws, response, strict=True))


def of_responses(aggregate: Aggregate) -> World:
    """Return the world in which a step is a whole response."""

    def reward(response: str) -> float:
        tables = [WORLD.after(WORLD.reward, place) for place in range(len(response))]
        rewards = [table[LETTERS.index(letter)] for table, letter in zip(tables, response, strict=True)]
        return aggregate_rewards(rewards, aggregate)

    draft, target = ([probability(table, one) for one in RESPONSES] for table in (WORLD.draft, WORLD.target))
    return World(draft, target, [reward(one) for one in RESPONSES])


async def written_responses(params: Params, num_draws: int = NUM_DRAWS) -> list[tuple[Source, int]]:
    """Return who wrote the answer, and which response it is, of jobs that differ in their seeds only."""
    answers = [(await write(params, WORLD.ports(), seed, answers=UNREAD)).answer for seed in range(num_draws)]
    return [(answer.steps[0].source, RESPONSES.index(answer.text)) for answer in answers]


@pytest.mark.parametrize(("n_target", "aggregate"), [(None, Aggregate.LAST), (1, Aggregate.MINIMUM)])
async def test_algorithm_1_over_responses_follows_its_exact_law(n_target: int | None, aggregate: Aggregate) -> None:
    """Lines 3 to 12 of Algorithm 1, where y_t is the response: softmax(beta r~^i), then r~^c >= u, else pi_B."""
    params = replace(PARAMS, n_target=n_target, aggregate=aggregate)
    world = of_responses(aggregate)
    law = exact.algorithm_1(world, params.beta, params.acceptance_threshold, 2, n_target or 2)
    assert 0.1 < sum(p for (source, _), p in law.items() if source is Source.TARGET) < 0.9
    assert p_value(law, await written_responses(params)) > LEAST_P


async def test_without_rejection_it_is_the_policy_of_theorem_1() -> None:
    """Section 3: "1. sample y_1..y_n ~ pi_S  2. compute r~_i  3. sample y_i ∝ exp(beta r~_i)"."""
    world = of_responses(Aggregate.LAST)
    law = exact.soft_best_of_n(world.draft, exact.tilted_rewards(world, 2.0), 2.0, 3)
    params = replace(PARAMS, method="gsi-no-rejection", n=3)
    assert p_value({(Source.DRAFT, y): p for y, p in enumerate(law)}, await written_responses(params)) > LEAST_P


@pytest.mark.parametrize("role", Source)
async def test_soft_best_of_n_over_responses_follows_its_exact_law(role: Source) -> None:
    """Section 2: "weighs each draw by w_i ∝ exp(beta r(x, y_i)), then sample a response y_i"."""
    world = of_responses(Aggregate.PRODUCT)
    model = world.draft if role is Source.DRAFT else world.target
    law = exact.soft_best_of_n(model, world.reward, 2.0, 3)
    params = replace(PARAMS, method="soft-best-of-n", role=role, n=3, aggregate=Aggregate.PRODUCT)
    assert p_value({(role, y): p for y, p in enumerate(law)}, await written_responses(params)) > LEAST_P


# The score of "b" and "aa" is 0.8, of "ab" 0.3: after one or two of four responses either rule may have enough.
RULES = [ThresholdRule(0.8), PandoraRule(0.3, 0.5)]


@pytest.mark.parametrize("rule", RULES)
async def test_algorithm_1_over_responses_with_a_rule_follows_its_exact_law(rule: NRule) -> None:
    """Every sequence of responses, stopped where the rule stops it: the draft's, and the target's if line 6 rejects."""
    params = replace(PARAMS, n=4, acceptance_threshold=0.9, n_rule=rule)
    world = of_responses(Aggregate.LAST)
    law = exact.adaptive_algorithm_1(world, 2.0, 0.9, part_ends(4), rule.is_enough)
    assert 0.1 < sum(p for (source, _), p in law.items() if source is Source.TARGET) < 0.9
    plain = exact.algorithm_1(world, 2.0, 0.9, 4, 4)
    assert exact.total_variation([*law.values()], [plain[outcome] for outcome in law]) > 0.05  # another law than n's
    assert p_value(law, await written_responses(params, 1_000)) > LEAST_P


@pytest.mark.parametrize("rule", RULES)
async def test_without_rejection_a_rule_stops_by_scores_and_the_draw_is_by_tilted_scores(rule: NRule) -> None:
    """As in steps: softmax(beta r~) over the responses up to the stop."""
    world = of_responses(Aggregate.LAST)
    tilted = exact.tilted_rewards(world, 2.0)
    law = exact.adaptive_soft_best_of_n(world.draft, tilted, 2.0, part_ends(4), rule.is_enough, world.reward)
    params = replace(PARAMS, method="gsi-no-rejection", n=4, n_rule=rule)
    assert p_value({(Source.DRAFT, y): p for y, p in enumerate(law)}, await written_responses(params, 1_000)) > LEAST_P


@pytest.mark.parametrize("aggregate", [Aggregate.LAST, Aggregate.MINIMUM])
async def test_soft_best_of_n_over_responses_with_a_rule_follows_its_exact_law(aggregate: Aggregate) -> None:
    """By the scores of whole responses, whatever makes them of the steps' rewards."""
    rule, world = ThresholdRule(0.5), of_responses(aggregate)
    law = exact.adaptive_soft_best_of_n(world.draft, world.reward, 2.0, part_ends(4), rule.is_enough)
    params = replace(PARAMS, method="soft-best-of-n", n=4, aggregate=aggregate, n_rule=rule)
    assert p_value({(Source.DRAFT, y): p for y, p in enumerate(law)}, await written_responses(params, 1_000)) > LEAST_P


async def test_a_rule_has_its_own_parts_for_the_draft_and_for_the_target() -> None:
    """Each begins with a quarter of its number, and goes on while all scores are too low; the rest stays empty."""
    params = replace(PARAMS, n=8, n_target=4, acceptance_threshold=1e6, n_rule=ThresholdRule(0.8))
    begun: dict[Source, set[int]] = {Source.DRAFT: set(), Source.TARGET: set()}
    for seed in range(60):
        written = await write(params, WORLD.ports(), seed, answers=UNREAD)
        last = written.populations(params)[-1]
        for source, places in ((Source.DRAFT, last[:8]), (Source.TARGET, last[8:])):
            rewards = [one.steps[-1].reward for one in places if one.steps]
            ends = part_ends(len(places))
            assert len(rewards) == next((end for end in ends if max(rewards[:end]) >= 0.8), ends[-1])
            begun[source].add(len(rewards))
        assert written.answer.steps[0].source is Source.TARGET
    assert begun == {Source.DRAFT: {2, 4, 8}, Source.TARGET: {1, 2, 4}}
    never = await write(replace(params, n_rule=ThresholdRule(2.0)), WORLD.ports(), answers=UNREAD)
    assert all(one.steps for one in never.populations(params)[-1])


@pytest.mark.parametrize(("u", "outcome"), [(-1e6, Outcome.ACCEPTED), (1e6, Outcome.RESAMPLED)])
async def test_the_target_writes_only_after_a_rejection(u: float, outcome: Outcome) -> None:
    """Its places stay empty while the draft's responses grow, and for good if one is accepted."""
    params = replace(PARAMS, n=3, n_target=2, acceptance_threshold=u)
    written = await write(params, WORLD.ports(), answers=UNREAD)
    last = written.populations(params)[-1]
    assert len(last) == 5
    assert all(one.steps for one in last[:3])
    assert {step.outcome for step in written.answer.steps} == {outcome}
    assert [bool(one.steps) for one in last[3:]] == [outcome is Outcome.RESAMPLED] * 2
    sources = [{proposal.source for proposal in made.proposals} for made in written.rounds]
    assert all(len(of_round) == 1 for of_round in sources)  # one model at a time
    for made in written.rounds:
        assert all(("target" in one.scores) is (one.source is Source.DRAFT) for one in made.proposals)


async def test_the_rounds_of_a_job_are_counted_through() -> None:
    """The target's first step is the first of its trajectory, in a later round: checkpoints follow the rounds."""
    written = await write(replace(PARAMS, acceptance_threshold=1e6), WORLD.ports(), answers=UNREAD)
    rounds = [
        StepRecord.from_round(made, keep_candidates=False, index=index) for index, made in enumerate(written.rounds)
    ]
    assert [record.index for record in rounds] == list(range(len(rounds)))
    assert [record.to_branches() for record in rounds] == [made.branches for made in written.rounds]
    assert written.rounds[-1].step.index < len(rounds) - 1


def test_the_likelihoods_of_a_responses_steps_are_summed() -> None:
    """log pi(y | x) of a response is the sum over its steps, each given those before."""
    one, two = trajectory(("a", 0.2), ("b", 0.6)).steps
    steps = (
        replace(one, log_likelihood_draft=-1.0, log_likelihood_target=-2.0),
        replace(two, log_likelihood_draft=-3.0, log_likelihood_target=-1.5),
    )
    assert tilted_score(START.extend(*steps), PARAMS) == pytest.approx(0.6 + (-1.0 + 1.5) / 2.0)
    assert tilted_score(START, PARAMS) == -math.inf  # nothing was written
    with pytest.raises(ValueError, match="likelihood of both"):
        tilted_score(trajectory(("a", 0.2)), PARAMS)


async def test_an_answer_that_ran_out_of_room_before_the_target_wrote_is_the_drafts() -> None:
    """A rejected response is better than none."""
    params = replace(PARAMS, acceptance_threshold=1e6)
    written = await write(params, WORLD.ports(), answers=UNREAD)
    drafts = (*written.populations(params)[-1][:2], START, START)
    assert await METHODS["gsi"].choose(drafts, params, UNREAD, 1) < 2


async def test_the_draft_writes_nothing_ahead_of_responses() -> None:
    """A response that grows has no leader: the ports of a round are the caller's own."""
    rules = JobRules(PARAMS, UNREAD.has_answer, 100)
    forget: Callable[[object], None] = lambda _: None  # noqa: E731
    ports = WORLD.ports()
    async with look_ahead(Lookahead(lambda: True, forget), METHODS["gsi"], ports, 1, rules) as watch:
        assert watch([]) is ports
