"""A step of each method is made of the right phases, and the break-even acceptance rate is where two methods cross."""

from dataclasses import replace

import pytest

from gsi.planning.gpus import GPUS
from gsi.planning.report import make_plan
from gsi.planning.steps import SBON_DRAFT, SBON_TARGET, plan_steps
from gsi.planning.systems import OURS, PAPER, System, set_overhead
from tests.planning.worlds import WORK, make_setup, with_acceptance

ARCHITECTURES = {role: model.architecture for role, model in make_setup().models.items()}


def test_each_method_asks_the_models_that_it_needs() -> None:
    """The roles of each method's phases, in their order, and how often each happens."""
    steps = plan_steps(make_setup())
    phases = {name: [(phase.role, round(phase.share, 9)) for phase in step.phases] for name, step in steps.items()}
    again = [("target", 0.1), ("prm", 0.1)]
    expected = {
        "gsi": [("draft", 1), ("target", 1), ("prm", 1), *again],
        "gsi-no-rejection": [("draft", 1), ("target", 1), ("prm", 1)],
        "rsd": [("draft", 1), ("prm", 1), ("target", 0.03), ("prm", 0.03)],
        SBON_DRAFT: [("draft", 1), ("prm", 1)],
        SBON_TARGET: [("target", 1), ("prm", 1)],
        **{key: [("draft", 1), ("prm", 1)] for key in ("best-of-n:draft", "beam-search:draft")},
        **{key: [("target", 1), ("prm", 1)] for key in ("best-of-n:target", "beam-search:target")},
        **{key: [("draft", 1)] for key in ("majority-vote:draft", "draft")},
        **{key: [("target", 1)] for key in ("majority-vote:target", "target")},
    }
    assert {name: phases[name] for name in expected} == expected


def test_one_after_the_other_the_phases_add_up() -> None:
    """In the paper's system a step takes the sum of its phases."""
    for step in plan_steps(make_setup(PAPER)).values():
        assert step.seconds == pytest.approx(sum(phase.share * phase.seconds for phase in step.phases))


def test_with_overlap_only_the_last_candidate_is_waited_for() -> None:
    """Ours takes at least the writing, and less than the sum."""
    gsi = plan_steps(make_setup(OURS))["gsi"]
    assert gsi.first.phases[0].seconds < gsi.first.seconds < sum(phase.seconds for phase in gsi.first.phases)


def test_a_scorer_that_is_slower_than_the_writer_sets_the_time() -> None:
    """The overlap hides no more than there is to hide: the scorer waits for the first candidate, and then works."""
    setup = make_setup()
    crawling = replace(setup.models["prm"], processor=replace(setup.models["prm"].processor, flops=1e12))
    gsi = plan_steps(replace(setup, models={**setup.models, "prm": crawling}))["gsi"]
    writing, _, reading = gsi.first.phases
    until_first = writing.seconds * WORK.shortest / WORK.longest
    assert gsi.first.seconds == pytest.approx(until_first + reading.seconds)
    assert gsi.first.seconds > writing.seconds


def test_without_a_cache_a_candidate_is_read_with_its_context() -> None:
    """Tokens that the scorers read, by both systems; padding lengthens the PRM's alone."""
    cached, bare = (plan_steps(make_setup(system))["gsi"].first.phases for system in (OURS, PAPER))
    context = WORK.context * WORK.n
    assert bare[1].tokens == pytest.approx(cached[1].tokens + context)
    assert bare[2].tokens > cached[2].tokens + context


@pytest.mark.parametrize("system", [OURS, PAPER], ids=["ours", "paper"])
def test_at_the_break_even_acceptance_gsi_takes_as_long_as_the_other_method(system: System) -> None:
    """The rate that is printed is where the two lines cross; above it GSI is faster, below it slower."""
    setup = make_setup(system)
    other = plan_steps(setup)[SBON_TARGET].seconds
    rate = plan_steps(setup)["gsi"].break_even(other)
    assert rate is not None
    assert 0 < rate < 1
    seconds = [plan_steps(with_acceptance(setup, rate + d))["gsi"].seconds for d in (-0.01, 0.0, 0.01)]
    assert seconds[0] > seconds[1] > seconds[2]
    assert seconds[1] == pytest.approx(other)


def test_a_break_even_that_does_not_exist_is_none_and_one_below_zero_is_zero() -> None:
    """Never, and always."""
    gsi = plan_steps(make_setup())["gsi"]
    assert gsi.break_even(gsi.first.seconds / 2) is None
    assert gsi.break_even(100.0) == 0


def test_at_the_break_even_of_cost_gsi_costs_as_much_at_full_batch() -> None:
    """GPU hours of both methods are equal there."""
    made = make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK)
    rate = made.break_even.gpu_hours_of_sbon_target
    assert rate is not None
    at_rate = make_plan(ARCHITECTURES, GPUS["h100"], OURS, replace(WORK, acceptance={"gsi": rate, "rsd": 0.97}))
    assert at_rate.methods["gsi"].gpu_hours == pytest.approx(made.methods[SBON_TARGET].gpu_hours, rel=1e-4)


def test_without_overhead_a_step_takes_its_floor() -> None:
    """The floor that is shown is the plan of passes that cost nothing besides."""
    made = make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK)
    bare = make_plan(ARCHITECTURES, GPUS["h100"], set_overhead(OURS, 0.0), WORK)
    for name, method in made.methods.items():
        assert bare.methods[name].step.seconds == pytest.approx(method.step.floor_seconds)
