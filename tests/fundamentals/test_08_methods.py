"""What each method does, in a world where the draft is often wrong, the target seldom, and the PRM knows.

A method writes an answer in rounds. Most methods keep one trajectory, which grows by a step in each round; others keep
several and choose one at the end. A job names its method (``METHODS``), and may give it options in the same word.
"""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from gsi.algorithm.candidates import Outcome, Source, Trajectory
from gsi.algorithm.generate import find_boxed_answer, generate
from gsi.algorithm.method import Answers
from gsi.algorithm.methods import METHODS
from gsi.algorithm.n_rule import ThresholdRule
from gsi.algorithm.params import Aggregate, Params, Scope, StopRules
from gsi.algorithm.reward_map import LogisticMap
from gsi.algorithm.round import Round
from gsi.algorithm.weighting import Binary, Clip
from gsi.jobs.job import parse_payload
from tests.algorithm.worlds import make_first_round
from tests.fundamentals.tiny import ANSWER, BAD, GOOD, PRM, START, TINY, TinyPrm

SEEDS = range(60)


async def steps_of(params: Params) -> list[Round]:
    """Make the first step of sixty jobs."""
    return [await make_first_round(params, TINY, seed, START) for seed in SEEDS]


async def answer_of(params: Params, seed: int, rounds: list[Round] | None = None) -> Trajectory:
    """Write an answer by any method; put every round that it took into ``rounds``."""

    async def keep(made: Round) -> None:
        if rounds is not None:
            rounds.append(made)

    async def are_equal(one: str, other: str) -> bool:
        return one == other

    answers = Answers(lambda text: "5" if find_boxed_answer(text) else None, are_equal)
    answer, _ = await generate(START, params, TINY, seed, keep=keep, max_length=1000, answers=answers)
    return answer


async def test_draft_is_the_small_model_alone() -> None:
    """Fast, and wrong four times in ten; nobody rates what it writes."""
    made = await steps_of(Params(method="draft"))
    assert 15 < [m.step.text for m in made].count(BAD) < 35


async def test_target_is_the_large_model_alone() -> None:
    """Seldom wrong, and slow: it writes every token itself."""
    made = await steps_of(Params(method="target"))
    assert [m.step.text for m in made].count(BAD) < 12
    assert all(m.num_tokens(Source.DRAFT) == 0 for m in made)


async def test_best_of_n_keeps_the_candidate_with_the_highest_reward() -> None:
    """At every step; soft best-of-n draws instead, and likes the better ones more."""
    hard = await steps_of(Params(method="best-of-n", n=4))
    assert all(m.step.reward == m.step.best_reward for m in hard)
    soft = await steps_of(Params(method="soft-best-of-n", n=4, beta=1.0))
    assert any(m.step.reward < m.step.best_reward for m in soft)


async def test_gsi_without_rejection_takes_what_the_draft_offers() -> None:
    """The candidate that reward and target like best is kept, even if that is not much."""
    made = await steps_of(Params(method="gsi-no-rejection", n=1))
    assert {m.step.source for m in made} == {Source.DRAFT}
    assert BAD in {m.step.text for m in made}


async def test_gsi_lets_the_target_write_what_is_not_good_enough() -> None:
    """The same draws; whatever stays below the threshold u is written anew."""
    made = await steps_of(Params(method="gsi", n=1, acceptance_threshold=0.5))
    drafted = [m.step for m in made if m.step.outcome is Outcome.ACCEPTED]
    assert BAD not in {step.text for step in drafted}
    assert {m.step.rejected.text for m in made if m.step.rejected is not None} == {BAD}


async def test_rsd_decides_by_the_reward_alone() -> None:
    """A step of reward 0.8 or 0.9 passes delta = 0.7; the target is asked only when it has to write."""
    made = await steps_of(Params(method="rsd", n=1, weighting=Binary(delta=0.7)))
    for m in made:
        drafted = m.by(Source.DRAFT)[0]
        assert (m.step.outcome is Outcome.ACCEPTED) == (drafted.candidates[0].text != BAD)
        assert "target" not in drafted.scores


async def test_the_weighting_says_how_strict_rsd_is() -> None:
    """With w = r a bad step is kept once in ten times, and a good one eight times in ten."""
    assert [Clip().weight(reward, log_ratio=0.0) for reward in (0.1, 0.8)] == [0.1, 0.8]
    made = await steps_of(Params(method="rsd", n=1, weighting=Clip()))
    assert any(m.step.rejected is not None and m.step.rejected.text == GOOD for m in made)


async def test_best_of_n_responses_chooses_among_whole_answers() -> None:
    """Eight answers are written beside each other; the rewards of their steps say which is the best."""
    params = Params(method="best-of-n", scope=Scope.RESPONSES, aggregate=Aggregate.MINIMUM, n=8)
    answers = [await answer_of(params, seed) for seed in range(20)]
    assert all(answer.text.endswith(ANSWER) for answer in answers)
    assert sum(BAD in answer.text for answer in answers) < 3


async def test_majority_vote_needs_no_reward() -> None:
    """The answer that most responses give wins."""
    rounds: list[Round] = []
    answer = await answer_of(Params(method="majority-vote", n=8), 1, rounds)
    assert answer.text.endswith(ANSWER)
    assert not any(proposal.is_rated for made in rounds for proposal in made.proposals)


async def test_beam_search_keeps_the_best_few_at_every_step() -> None:
    """Two beams, four candidates each: n = 8 candidates a round."""
    rounds: list[Round] = []
    params = Params(method="beam-search", n=8, beam_width=2, beam_expansion=4, stop=StopRules(max_steps=4))
    answer = await answer_of(params, 1, rounds)
    assert BAD not in answer.text
    assert all(len(made.branches) <= 2 for made in rounds)
    assert len(rounds[0].proposals[0].candidates) == 8


async def test_a_language_model_may_judge_a_step_in_place_of_a_reward_model() -> None:
    """SpecReason asks the target about every step of the draft; ConfSpec only where the draft itself is unsure."""
    for seed in SEEDS:
        asked = (await make_first_round(Params(method="spec-reason"), TINY, seed, START)).step
        spared = (await make_first_round(Params(method="conf-spec"), TINY, seed, START)).step
        assert asked.text == spared.text
        drafted = asked.text if asked.rejected is None else asked.rejected.text
        assert (asked.rejected is None) == (drafted != BAD)
        assert [judgement.source for judgement in asked.judgements] == [Source.TARGET]
        assert (Source.TARGET in {judgement.source for judgement in spared.judgements}) == (drafted == BAD)
        assert math.isnan(asked.reward)


async def test_a_router_asks_the_target_only_where_its_step_is_likely_to_be_better() -> None:
    """The oracle of Arbitrage lets both write every step; its router spends the target's tokens on bad steps alone."""
    oracle = await steps_of(Params(method="arbitrage-oracle", n=1))
    routed = await steps_of(Params(method="arbitrage", n=1))  # by what a router says that has learned nothing: 1 - r
    assert all(made.num_tokens(Source.TARGET) > 0 for made in oracle)
    for made in routed:
        drafted = made.step.rejected.text if made.step.rejected else made.step.text
        assert (made.num_tokens(Source.TARGET) > 0) == (drafted == BAD)
    assert all(better.step.reward >= made.step.reward for better, made in zip(oracle, routed, strict=True))


async def test_subtrees_do_not_compete() -> None:
    """Two subtrees with four candidates each: both live to the end, where the better one is the answer."""
    rounds: list[Round] = []
    params = Params(method="dvts", n=8, beam_width=2, beam_expansion=4, stop=StopRules(max_steps=4))
    answer = await answer_of(params, 1, rounds)
    assert BAD not in answer.text
    assert all([branch.parent for branch in made.branches] == [0, 1] for made in rounds)


async def test_a_particle_filter_continues_what_weighs_most() -> None:
    """Eight particles: those with a bad step weigh little, and the good ones are continued in their place."""
    rounds: list[Round] = []
    params = Params(method="particle-filter", n=8, stop=StopRules(max_steps=4))
    answer = await answer_of(params, 1, rounds)
    assert BAD not in answer.text
    first, second = rounds[:2]
    bad = {place for place, branch in enumerate(first.branches) if branch.step and branch.step.text == BAD}
    assert bad
    assert not bad & {branch.parent for branch in second.branches}


async def test_specs_switches_to_the_draft_after_a_good_step() -> None:
    """The target begins; whoever writes the next step is told by the reward of this one."""
    params = Params(method="specs", n=1, switch_threshold=0.5, stop=StopRules(max_steps=4))
    for seed in SEEDS:
        steps = (await answer_of(params, seed)).steps
        assert steps[0].source is Source.TARGET
        for before, after in pairwise(steps):
            assert after.source is (Source.DRAFT if before.reward >= 0.5 else Source.TARGET)


async def test_gsi_may_take_the_whole_answer_as_its_step() -> None:
    """The draft writes eight answers; if the drawn one is rejected, the target writes eight more."""
    params = Params(method="gsi", scope=Scope.RESPONSES, n=8)
    accepted, rejected = (replace(params, acceptance_threshold=u) for u in (-1e6, 1e6))
    assert {step.source for step in (await answer_of(accepted, 1)).steps} == {Source.DRAFT}
    assert {step.source for step in (await answer_of(rejected, 1)).steps} == {Source.TARGET}


async def test_adaptive_n_stops_asking_once_a_good_step_is_there() -> None:
    """Sixteen candidates at most, in parts of four, four and eight: no second part after a reward of 0.8."""
    made = await steps_of(Params(method="best-of-n", n=16, n_rule=ThresholdRule(0.8)))
    assert {len(m.proposals[0].candidates) for m in made} == {4, 8}
    assert BAD not in [m.step.text for m in made]


async def test_a_confidence_vote_ends_before_all_have_voted() -> None:
    """Eight responses: once the first four agree, the others are not begun."""
    rounds: list[Round] = []
    params = Params(method="confidence-vote", n=8)
    assert await answer_of(params, 1, rounds)
    begun = {branch.parent for made in rounds for branch in made.branches if branch.step}
    assert begun == {0, 1, 2, 3}


async def test_speculative_rejection_ends_those_that_fall_behind() -> None:
    """Eight responses: four go on after the first step, and none of them began with a bad one."""
    rounds: list[Round] = []
    params = Params(method="speculative-rejection", n=8)
    answer = await answer_of(params, 2, rounds)
    assert len(rounds[0].branches) == 4
    assert BAD not in [branch.step.text for branch in rounds[0].branches if branch.step]
    assert answer.text.startswith((GOOD, ANSWER))


async def test_a_reward_map_makes_any_number_a_reward() -> None:
    """A reward model that gives -3 and 2 instead of probabilities serves as well."""
    ports = replace(TINY, prm=TinyPrm({GOOD: 2.0, BAD: -3.0, ANSWER: 4.0}))
    params = Params(method="rsd", n=1, weighting=Binary(0.5), reward_map=LogisticMap())
    for seed in SEEDS:
        step = (await make_first_round(params, ports, seed, START)).step
        assert 0 < step.reward < 1
        assert step.rejected is None or step.rejected.text == BAD
    assert PRM.rewards[BAD] == pytest.approx(0.1)  # the map is the job's; the PRM of the other tests needs none


def test_a_job_names_its_method_with_options_in_one_word() -> None:
    """Each option is short for a parameter, which may be written out instead."""
    short = parse_payload('{"prompt": "2 + 3?", "params": {"method": "rsd:logistic=10/0.7:n=4"}}')
    weighting = '{"name": "logistic", "alpha": 10, "delta": 0.7}'
    long = parse_payload(f'{{"prompt": "2 + 3?", "params": {{"method": "rsd", "weighting": {weighting}, "n": 4}}}}')
    assert short == long


def test_a_method_says_what_it_needs_before_a_job_runs() -> None:
    """Which models it asks, and whether it may reject: best-of-n keeps one trajectory or, over responses, n of them."""
    assert METHODS["gsi"].models(Params()) == {"draft", "target", "prm"}
    assert METHODS["majority-vote"].models(Params(role=Source.TARGET)) == {"target"}
    assert [name for name, method in METHODS.items() if method.can_reject][:2] == ["gsi", "rsd"]
    assert len(METHODS["best-of-n"].start(START, Params(n=4))) == 1
    assert len(METHODS["best-of-n"].start(START, Params(n=4, scope=Scope.RESPONSES))) == 4
