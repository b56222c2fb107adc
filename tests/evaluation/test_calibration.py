"""Calibration against worlds whose laws are known, and against Algorithm 1 run again at the other setting."""

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.params import Params
from gsi.algorithm.soft_best_of_n import probabilities
from gsi.algorithm.weighting import Binary
from gsi.errors import InvalidRequestError
from gsi.evaluation.calibration import (
    Calibration,
    CalibrationRow,
    Setting,
    calibrate,
    choose_worth_running,
    compute_effective_sample_size,
)
from gsi.evaluation.calibration_tables import write_grid
from gsi.evaluation.draft_proposals import read_draft_proposals
from gsi.evaluation.estimates import Estimate, bootstrap_mean
from gsi.evaluation.non_inferiority import estimate_lost_accuracy, recommend
from gsi.evaluation.recommendation import MeasuredSetting
from gsi.evaluation.records import RecordedJob
from tests.algorithm import exact
from tests.algorithm.worlds import World
from tests.evaluation.calibration_records import MODELS, recorded_jobs

WORLD = World(
    draft=(0.40, 0.25, 0.15, 0.10, 0.10),
    target=(0.10, 0.20, 0.30, 0.40, 0.00),
    reward=(0.30, 0.90, 0.60, 0.10, 0.95),
    turns=True,
)
PARAMS = Params(n=4, beta=3.0, acceptance_threshold=0.5)
RECORDED = Setting(beta=3.0, acceptance_threshold=0.5, n=4)
PAPER = Setting(beta=20.0, acceptance_threshold=0.5, n=4)
OTHERS = [Setting(3.0, 0.7, 4), Setting(10.0, 0.55, 2), Setting(1.0, -1.0, 3), Setting(20.0, 0.9, 1)]


def only(setting: Setting, calibration: Calibration) -> CalibrationRow:
    return next(row for row in calibration.rows if row.setting == setting)


def at(setting: Setting, records: Sequence[RecordedJob]) -> CalibrationRow:
    """Return the row of one setting."""
    grid = calibrate(records, [setting.beta], [setting.acceptance_threshold], [setting.n])
    return only(setting, grid)


def params_of(setting: Setting) -> Params:
    return replace(PARAMS, n=setting.n, beta=setting.beta, acceptance_threshold=setting.acceptance_threshold)


def without(records: Sequence[RecordedJob], field: str) -> list[RecordedJob]:
    """Return the records with a value of every candidate taken away."""
    return [
        record.model_copy(
            update={
                "steps": tuple(
                    step.model_copy(
                        update={
                            "proposals": tuple(
                                proposal.model_copy(
                                    update={
                                        "candidates": tuple(
                                            candidate.model_copy(update={field: None})
                                            for candidate in proposal.candidates
                                        )
                                    }
                                )
                                for proposal in step.proposals
                            )
                        }
                    )
                    for step in record.steps
                )
            }
        )
        for record in records
    ]


def with_params(records: Sequence[RecordedJob], changes: Mapping[str, object]) -> list[RecordedJob]:
    return [record.model_copy(update={"params": {**record.params, **changes}}) for record in records]


@cache
def many_jobs() -> list[RecordedJob]:
    """Return jobs of one step, enough for tests of laws; made once."""
    return asyncio.run(recorded_jobs(WORLD, PARAMS, num_problems=2_500))


def exact_acceptance(setting: Setting) -> float:
    law = exact.algorithm_1(WORLD, setting.beta, setting.acceptance_threshold, setting.n, n_target=1)
    return sum(p for (source, _), p in law.items() if source is Source.DRAFT)


@pytest.mark.parametrize("setting", [RECORDED, *OTHERS])
def test_the_acceptance_of_first_steps_is_the_exact_one(setting: Setting) -> None:
    """Records of one setting give the acceptance of another, as the exact law of Algorithm 1 has it."""
    assert at(setting, many_jobs()).first_step_acceptance.value == pytest.approx(exact_acceptance(setting), abs=0.015)


@pytest.mark.parametrize("setting", [RECORDED, Setting(10.0, 0.55, 2)])
def test_the_intervals_hold_the_exact_acceptance(setting: Setting) -> None:
    """Of 25 evaluations with 100 problems each, at least 20 have the exact acceptance in their 95 % interval."""
    found = [at(setting, many_jobs()[i : i + 100]).first_step_acceptance for i in range(0, 2_500, 100)]
    assert sum(one.low <= exact_acceptance(setting) <= one.high for one in found) >= 20
    assert max(one.high - one.low for one in found) < 0.25


async def test_the_interval_is_narrower_than_that_of_counted_acceptances() -> None:
    """The selection is averaged out: what the draw adds to the variance is gone."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=200)
    counted = bootstrap_mean(
        [float(record.steps[0].outcome is Outcome.ACCEPTED) for record in records],
        [record.problem for record in records],
    )
    computed = at(RECORDED, records).acceptance
    assert computed.high - computed.low < 0.9 * (counted.high - counted.low)
    assert computed.value == pytest.approx(counted.value, abs=0.05)


async def test_no_choice_changes_at_the_recorded_setting() -> None:
    """Computed again from the records, every selection and every test comes out as it did."""
    row = at(RECORDED, await recorded_jobs(WORLD, PARAMS, num_problems=100, num_steps=3))
    assert (row.is_recorded, row.num_steps, row.changed_share) == (True, 300, 0)


async def test_records_say_the_same_when_they_are_read_from_a_file() -> None:
    """Written as JSON and read again, log ratios of -inf included, the records give the same figures."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=20, num_steps=2)
    read = [RecordedJob.model_validate_json(record.model_dump_json()) for record in records]
    assert any(-math.inf in step.log_ratios for step in read_draft_proposals(read))
    assert calibrate(read) == calibrate(records)


@pytest.mark.parametrize("setting", OTHERS)
async def test_the_choices_that_change_are_those_that_change_when_run(setting: Setting) -> None:
    """With the same seeds, jobs of the other setting differ in exactly the share of first steps that was computed."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=100)
    again = await recorded_jobs(WORLD, params_of(setting), num_problems=100)
    before, after = (
        [(job.steps[0].proposals[0].selected, job.steps[0].outcome) for job in jobs] for jobs in (records, again)
    )
    changed = sum(was != now for was, now in zip(before, after, strict=True)) / 100
    assert changed > 0
    assert at(setting, records).changed_share == changed


def test_the_effective_sample_size_is_the_exact_mean() -> None:
    """The mean over steps is near the mean over all draws of two candidates."""
    tilted = exact.tilted_rewards(WORLD, 3.0)
    mean = sum(
        WORLD.draft[a] * WORLD.draft[b] * compute_effective_sample_size([tilted[a], tilted[b]], 3.0)
        for a, b in product(WORLD.steps, repeat=2)
    )
    row = at(Setting(3.0, 0.5, 2), many_jobs())
    assert row.effective_sample_size == pytest.approx(mean, abs=0.02)
    assert row.effective_share == row.effective_sample_size / 2


def test_the_effective_sample_size_runs_from_one_to_n() -> None:
    """Equal weights count fully, one that dominates counts alone, and weights of nothing count nothing."""
    assert compute_effective_sample_size([0.3] * 7, beta=20) == pytest.approx(7)
    assert compute_effective_sample_size([1.0, -50.0, -math.inf], beta=20) == pytest.approx(1)
    assert compute_effective_sample_size([-math.inf, -math.inf], beta=20) == 0


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(0.1, 50))
def test_the_effective_sample_size_has_bounds(tilted: list[float], beta: float) -> None:
    """It is at least the inverse of the largest weight, and at most n."""
    size = compute_effective_sample_size(tilted, beta)
    assert 1 / max(probabilities(tilted, beta)) - 1e-9 <= size <= len(tilted) + 1e-9


@pytest.mark.parametrize("n_target", [None, 3])
async def test_costs_are_counted_as_they_are_defined(n_target: int | None) -> None:
    """Steps of this world are one token, so a step drafts n tokens and resamples (1 - acceptance) * n_target."""
    records = await recorded_jobs(WORLD, replace(PARAMS, n_target=n_target), num_problems=50)
    row = at(Setting(3.0, 0.6, 2), records)
    rejected = (1 - row.acceptance.value) * (n_target or 2)
    assert rejected > 0
    assert row.draft_tokens == row.scored_tokens == 2
    assert row.target_tokens == pytest.approx(rejected)
    assert row.prm_tokens == pytest.approx(2 + rejected)
    flops = 2 * (MODELS["draft"] * 2 + MODELS["target"] * (2 + rejected) + MODELS["prm"] * (2 + rejected))
    assert row.flops == pytest.approx(flops)
    assert row.cost == row.flops


async def test_flops_are_unknown_where_a_model_is() -> None:
    """Without a model's number of parameters costs are in tokens."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=5, models={**MODELS, "target": None})
    row = at(RECORDED, records)
    assert row.flops is None
    assert row.cost == pytest.approx(2 * row.draft_tokens + row.target_tokens + row.prm_tokens)


@pytest.mark.parametrize("setting", [RECORDED, Setting(3.0, 0.7, 4), Setting(20.0, 0.5, 2)])
def test_the_expected_reward_of_first_steps_is_the_exact_one(setting: Setting) -> None:
    """All first steps stand behind one prompt here, so both parts of the proxy are unbiased."""
    row = at(setting, many_jobs())
    law = exact.algorithm_1(WORLD, setting.beta, setting.acceptance_threshold, setting.n, n_target=setting.n)
    assert row.reward == pytest.approx(sum(p * WORLD.reward[y] for (_, y), p in law.items()), abs=0.01)


async def test_the_target_is_taken_for_the_draft_where_it_never_wrote() -> None:
    """Records without a resampling say nothing of the target's steps, and the table tells."""
    accepting = await recorded_jobs(WORLD, replace(PARAMS, acceptance_threshold=-1e6), num_problems=20)
    assert calibrate(accepting).target_figures_from is Source.DRAFT
    rejecting = await recorded_jobs(WORLD, replace(PARAMS, acceptance_threshold=1e6), num_problems=20)
    assert calibrate(rejecting).target_figures_from is Source.TARGET


async def test_candidates_that_the_prm_gave_no_number_are_never_selected() -> None:
    """A NaN reward weighs nothing and leaves every figure a number."""
    world = replace(WORLD, reward=(math.nan, 0.9, 0.6, 0.1, 0.95))
    records = await recorded_jobs(world, PARAMS, num_problems=100)
    row = at(RECORDED, records)
    assert row.changed_share == 0
    assert 0 < row.reward < 1
    assert 0 < row.acceptance.value < 1


async def test_acceptance_falls_as_the_threshold_rises_and_the_target_writes_more() -> None:
    """u has one direction, step by step and in the mean."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=30, num_steps=2)
    rows = [
        row for row in calibrate(records, [3.0], [-1, 0, 0.3, 0.6, 0.9, 1.2]).rows if row.setting.beta == RECORDED.beta
    ]
    assert all(later.acceptance.value <= earlier.acceptance.value for earlier, later in pairwise(rows))
    assert all(later.target_tokens >= earlier.target_tokens for earlier, later in pairwise(rows))
    assert rows[0].acceptance.value == pytest.approx(1)
    assert rows[-1].acceptance.value == 0


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8, unique=True), st.floats(0.5, 40))
async def test_acceptance_falls_as_the_threshold_rises_whatever_the_records_are(us: list[float], beta: float) -> None:
    """For any thresholds and any beta the acceptance never rises with u."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=1)
    rows = [row for row in calibrate(records, [beta], us).rows if row.setting.beta == beta]
    assert all(later.acceptance.value <= earlier.acceptance.value for earlier, later in pairwise(rows))


async def test_the_grid_holds_the_recorded_and_the_papers_setting() -> None:
    """Whatever is asked for, the two settings that everything is compared with are there."""
    grid = calibrate(await recorded_jobs(WORLD, PARAMS, num_problems=3), [7.0], [0.1], [1, 2])
    assert [row.setting for row in grid.rows] == [RECORDED, Setting(7.0, 0.1, 1), Setting(7.0, 0.1, 2), PAPER]
    assert [row.is_recorded for row in grid.rows] == [True, False, False, False]


@pytest.mark.parametrize(
    ("betas", "thresholds", "ns", "sentence"),
    [
        ([0.0], [0.5], [], "betas: 0.0 is not allowed; allowed: finite numbers above 0"),
        ([math.inf], [0.5], [], "betas: inf is not allowed"),
        ([3.0], [math.nan], [], "thresholds: nan is not allowed; allowed: finite numbers"),
        ([3.0], [0.5], [5], "ns: 5 is not allowed; allowed: whole numbers from 1 to 4"),
        ([3.0], [0.5], [0], "ns: 0 is not allowed"),
    ],
)
async def test_what_the_records_cannot_tell_is_refused(
    betas: list[float], thresholds: list[float], ns: list[int], sentence: str
) -> None:
    """More candidates than were recorded, and parameters that are none, are refused by name."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    with pytest.raises(InvalidRequestError, match=sentence):
        calibrate(records, betas, thresholds, ns)


@pytest.mark.parametrize("field", ["reward", "log_likelihood_target"])
async def test_records_without_scores_are_refused(field: str) -> None:
    """A draft proposal without rewards or without the target's likelihoods tells nothing."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    with pytest.raises(InvalidRequestError, match="records: no draft proposal has every reward and both likelihoods"):
        calibrate(without(records, field))


async def test_steps_without_scores_are_left_out_and_counted() -> None:
    """One job without likelihoods leaves the figures of the others."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=4, num_steps=2)
    grid = calibrate([*without(records[:1], "log_likelihood_target"), *records[1:]])
    assert (grid.num_left_out, grid.num_problems, grid.rows[0].num_steps) == (2, 3, 6)


async def test_records_of_several_settings_are_refused() -> None:
    """Prefixes of two settings are a mixture that no figure speaks of."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    with pytest.raises(InvalidRequestError, match="records: of several settings"):
        calibrate([*records, *with_params(records, {"beta": 4.0})])


async def test_records_of_another_method_have_no_recorded_setting() -> None:
    """Without the test of line 6 there is no recorded u, and so no choice that could change."""
    records = with_params(await recorded_jobs(WORLD, PARAMS, num_problems=2), {"method": "gsi-no-rejection"})
    grid = calibrate(records, [3.0], [0.5])
    assert {row.changed_share for row in grid.rows} == {None}
    assert not any(row.is_recorded for row in grid.rows)


def row_of(setting: Setting, flops: float, reward: float, is_recorded: bool = False) -> CalibrationRow:
    """Return a row of which only the cost and the reward matter."""
    rate = Estimate(0.5, 0.4, 0.6)
    return CalibrationRow(setting, is_recorded, 10, rate, rate, 2.0, 0.5, 0.0, 4.0, 4.0, 2.0, flops, reward)


CHEAP, MIDDLE, DEAR, WORSE = (Setting(beta, 0.5, 4) for beta in (1.0, 2.0, 40.0, 50.0))
GRID = [
    row_of(CHEAP, 1, 0.1),
    row_of(MIDDLE, 5, 0.5),
    row_of(DEAR, 9, 0.9),
    row_of(WORSE, 8, 0.2),
    row_of(PAPER, 6, 0.3),
    row_of(RECORDED, 7, 0.3, is_recorded=True),
]


def test_worth_running_is_what_nothing_beats_and_the_two_references() -> None:
    """A setting that costs more and promises less is not worth it, unless it is the recorded or the paper's."""
    assert [row.setting for row in choose_worth_running(GRID)] == [CHEAP, MIDDLE, PAPER, RECORDED, DEAR]
    assert [row.setting for row in choose_worth_running(GRID, k=4)] == [CHEAP, PAPER, RECORDED, DEAR]
    assert [row.setting for row in choose_worth_running(GRID, k=2)] == [PAPER, RECORDED]


async def test_worth_running_does_not_depend_on_the_order_of_the_grid() -> None:
    """The same grid gives the same few settings, at most k of them."""
    grid = list(calibrate(await recorded_jobs(WORLD, PARAMS, num_problems=20), ns=[1, 2, 4]).rows)
    shuffled = random.Random(0).sample(grid, len(grid))
    assert choose_worth_running(grid) == choose_worth_running(shuffled)
    assert len(choose_worth_running(grid)) == 6
    assert {RECORDED, PAPER} <= {row.setting for row in choose_worth_running(grid, k=3)}


@pytest.mark.parametrize("k", [1, 7])
def test_worth_running_is_few(k: int) -> None:
    """Each setting is hours of a GPU, so no more than six are named, and the references are two."""
    with pytest.raises(InvalidRequestError, match=f"k: {k} is not allowed; allowed: a whole number from 2 to 6"):
        choose_worth_running(GRID, k)


def measured(setting: Setting, accuracies: Sequence[float], cost: float) -> MeasuredSetting:
    return MeasuredSetting(setting, {f"problem-{i}": value for i, value in enumerate(accuracies)}, cost, acceptance=0.8)


def test_the_cheapest_setting_that_is_shown_to_be_not_inferior_is_recommended() -> None:
    """The best is dear, the cheapest loses 5 points, the middle one nothing: within a point, as 500 problems show."""
    best = measured(DEAR, [1.0] * 500, cost=9)
    middle = measured(MIDDLE, [1.0] * 500, cost=5)
    cheap = measured(CHEAP, [1.0] * 475 + [0.0] * 25, cost=1)
    assert recommend([cheap, middle, best]) == middle
    assert recommend([cheap, middle, best], margin=0.1) == cheap
    assert recommend([best, cheap]) == best
    lost = estimate_lost_accuracy(cheap, best)
    assert lost.low < lost.value == 0.05 < lost.high


def test_few_problems_do_not_make_the_cheapest_a_recommendation() -> None:
    """Eight problems hide a loss of 30 points: nothing is shown, so the best is recommended, not the cheapest."""
    best, cheap = measured(DEAR, [1.0] * 8, cost=9), measured(CHEAP, [1.0] * 7 + [0.0], cost=1)
    assert recommend([cheap, best]) == best
    assert recommend([cheap, best], margin=0.9) == cheap


def test_accuracies_are_compared_problem_by_problem() -> None:
    """Problems differ far more than settings do: paired, the small difference shows; the intervals alone overlap."""
    hard_and_easy = [0.1, 0.9] * 300
    best = measured(DEAR, hard_and_easy, cost=9)
    worse = measured(CHEAP, [value - 0.005 for value in hard_and_easy], cost=1)
    assert best.accuracy_interval.low < worse.accuracy_interval.high
    assert recommend([worse, best], margin=0.015) == worse


def test_only_common_problems_are_compared() -> None:
    """A job that failed leaves its problem out; without a common problem nothing can be said."""
    assert estimate_lost_accuracy(measured(CHEAP, [1.0], 1), measured(DEAR, [1.0, 0.0], 9)).value == 0
    other = MeasuredSetting(CHEAP, {"elsewhere": 1.0}, 1, acceptance=0.8)
    with pytest.raises(InvalidRequestError, match="measured: settings with different problems"):
        estimate_lost_accuracy(other, measured(DEAR, [1.0], 9))
    with pytest.raises(InvalidRequestError, match="measured: nothing was measured"):
        recommend([])


def with_weighting(records: Sequence[RecordedJob], **weighting: object) -> list[RecordedJob]:
    return [record.model_copy(update={"params": {**record.params, "weighting": weighting}}) for record in records]


async def test_records_of_rsd_are_calibrated_by_the_reward_alone() -> None:
    """Its binary weighting tests r >= delta; the recorded setting changes nothing, and the target scores nothing."""
    params = replace(PARAMS, method="rsd", weighting=Binary(0.5))
    records = await recorded_jobs(WORLD, params, num_problems=40, num_steps=2)
    grid = calibrate(with_weighting(records, name="binary", delta=0.5), [3.0, 20.0], [0.2, 0.5, 0.95])
    recorded = only(Setting(3.0, 0.5, 4), grid)
    assert (grid.method, recorded.is_recorded) == ("rsd", True)
    assert (recorded.changed_share, recorded.scored_tokens) == (0.0, 0.0)
    counted = [step.outcome is Outcome.ACCEPTED for record in records for step in record.steps]
    assert recorded.acceptance.value == pytest.approx(sum(counted) / len(counted), abs=0.15)
    assert only(Setting(3.0, 0.95, 4), grid).acceptance.value < recorded.acceptance.value
    assert any(row.setting == Setting(20.0, 0.7, 4) for row in grid.rows)  # the paper's delta
    with pytest.raises(InvalidRequestError, match="records: weighting clip has no threshold; allowed: binary"):
        calibrate(with_weighting(records, name="clip"))


async def test_records_of_the_authors_preset_are_refused() -> None:
    """Their u is on the scale of beta times the reward, and the grid's is not."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    theirs = [record.model_copy(update={"params": {**record.params, "preset": "authors"}}) for record in records]
    with pytest.raises(InvalidRequestError, match="records: preset authors; allowed: paper"):
        calibrate(theirs, [3.0], [0.5])


async def test_records_of_an_adaptive_n_are_refused() -> None:
    """Where a rule ended a proposal, its candidates are no fair draw of n."""
    records = await recorded_jobs(WORLD, PARAMS, num_problems=2)
    rule = {"name": "threshold", "level": 0.9}
    ruled = [record.model_copy(update={"params": {**record.params, "n_rule": rule}}) for record in records]
    with pytest.raises(InvalidRequestError, match="records: n_rule threshold; allowed: none"):
        calibrate(ruled, [3.0], [0.5])


async def test_what_is_imputed_is_marked() -> None:
    """A threshold above the recorded one rejects steps for which the target wrote nothing."""
    grid = calibrate(await recorded_jobs(WORLD, PARAMS, num_problems=30), [3.0], [0.5, 0.9])
    stricter = only(Setting(3.0, 0.9, 4), grid)
    assert 0 < stricter.imputed_share < 1
    text = write_grid([stricter])
    assert f"~{stricter.reward:.3f}" in text
    assert "~ is imputed" in text
    lenient = replace(PARAMS, acceptance_threshold=-9.0)  # resamples nothing
    accepted = calibrate(await recorded_jobs(WORLD, lenient, num_problems=5), [3.0], [-9.0])
    assert "~" not in write_grid([only(Setting(3.0, -9.0, 4), accepted)])


async def test_the_tables_have_a_line_for_each_setting_and_80_columns() -> None:
    """Every row is in both tables once, the recorded one with a mark."""
    grid = calibrate(await recorded_jobs(WORLD, PARAMS, num_problems=5), [3.0, 80.0], [-0.5, 0.5, 0.7])
    large = {"draft_tokens": 12345.6, "target_tokens": 12345.6, "flops": 1.23e17, "imputed_share": 0.5}
    acceptance, costs, *_ = write_grid([replace(row, **large) for row in grid.rows]).split("\n\n")  # type: ignore[arg-type]
    for table in (acceptance, costs):
        assert max(map(len, table.splitlines())) <= 80
        lines = [" ".join(line.split()) for line in table.splitlines()]
        assert len(lines) == 2 + len(grid.rows)
        assert len({line.count("|") for line in lines}) == 1
        assert sum(line.startswith("| 3* | 0.5 | 4 | ") for line in lines) == 1


def test_the_interval_takes_the_problem_as_the_unit() -> None:
    """Repeating a problem's value narrows nothing: ten steps of one problem are one observation."""
    values = [0.1, 0.5, 0.6, 0.9]
    once = bootstrap_mean(values, ["a", "b", "c", "d"])
    tenfold = bootstrap_mean([v for v in values for _ in range(10)], [p for p in "abcd" for _ in range(10)])
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert bootstrap_mean([0.1, 0.9], ["a", "a"]) == Estimate(0.5)
    assert math.isnan(bootstrap_mean([], []).value)
