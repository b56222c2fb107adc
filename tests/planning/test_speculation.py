"""Speculative decoding inside the target, and a draft that judges its own steps: costs counted by hand."""

import random
import statistics
from dataclasses import replace

import pytest

from gsi.planning.gpus import GPUS
from gsi.planning.phases import Speculation, read, write
from gsi.planning.quantities import Given, Quantity
from gsi.planning.report import MethodPlan, make_plan
from gsi.planning.steps import Step, plan_steps
from gsi.planning.systems import OURS
from tests.planning.worlds import WORK, make_setup

SETUP = make_setup()
TARGET, DRAFT = SETUP.models["target"], SETUP.models["draft"]
LABEL = "speculative-decoding"


def describe_engine(acceptance: float, num_tokens: int, label: str = LABEL) -> Given:
    return {Quantity.TOKEN_ACCEPTANCE: {label: acceptance}, Quantity.SPECULATIVE_TOKENS: {label: float(num_tokens)}}


def plan_decoding(acceptance: float, num_tokens: int) -> Step:
    work = replace(WORK, quantities=describe_engine(acceptance, num_tokens))
    return plan_steps(make_setup(work=work))[LABEL]


def plan_whole(acceptance: float, num_tokens: int) -> dict[str, MethodPlan]:
    work = replace(WORK, quantities=describe_engine(acceptance, num_tokens))
    architectures = {role: model.architecture for role, model in SETUP.models.items()}
    return dict(make_plan(architectures, GPUS["h100"], OURS, work).methods)


@pytest.mark.parametrize(
    ("num_tokens", "acceptance", "expected"),
    [(3, 0.5, 1 + 1 / 2 + 1 / 4 + 1 / 8), (4, 0.0, 1.0), (4, 1.0, 5.0), (1, 0.8, 1.8)],
)
def test_a_pass_gives_the_expected_tokens_of_the_paper(num_tokens: int, acceptance: float, expected: float) -> None:
    """(1 - alpha^(gamma + 1)) / (1 - alpha) of Leviathan et al., equation 1, and its limit at alpha = 1."""
    assert Speculation(num_tokens, acceptance).tokens_per_cycle == pytest.approx(expected)
    if acceptance < 1:
        assert expected == pytest.approx((1 - acceptance ** (num_tokens + 1)) / (1 - acceptance))


def test_the_expected_tokens_are_the_mean_of_drawn_ones() -> None:
    """Tokens are accepted up to the first that is not, and the target adds one of its own."""
    rng = random.Random(0)

    def draw() -> int:
        accepted = 0
        while accepted < 5 and rng.random() < 0.7:
            accepted += 1
        return accepted + 1

    assert Speculation(5, 0.7).tokens_per_cycle == pytest.approx(
        statistics.fmean(draw() for _ in range(20_000)), rel=0.02
    )


def test_each_cycle_is_a_pass_of_the_drafter_for_each_token_and_one_of_the_target() -> None:
    """At alpha = 1/2 and gamma = 3 the 25 tokens of a step take 25 / 1.875 cycles."""
    drafting, verifying = plan_decoding(0.5, 3).phases
    cycles = WORK.mean / 1.875
    assert [drafting.passes, verifying.passes] == pytest.approx([3 * cycles, cycles])
    assert [drafting.tokens, verifying.tokens] == pytest.approx([3 * cycles, 4 * cycles])
    behind = WORK.context + WORK.mean / 2
    assert drafting.num_bytes == pytest.approx(3 * cycles * (DRAFT.pass_bytes + behind * DRAFT.kv_bytes))
    assert verifying.num_bytes == pytest.approx(cycles * (TARGET.pass_bytes + (behind + 4) * TARGET.kv_bytes))
    by_hand = (drafting.num_bytes + verifying.num_bytes) / 2e12 + 4 * cycles * 0.002
    assert plan_decoding(0.5, 3).seconds == pytest.approx(by_hand)


def test_what_is_never_accepted_costs_the_target_and_the_drafter() -> None:
    """At alpha = 0 each token takes a pass of the target, as without speculation, and gamma of the drafter."""
    drafting, verifying = plan_decoding(0.0, 4).phases
    plain = plan_steps(SETUP)["target"]
    assert verifying.passes == pytest.approx(plain.phases[0].passes)
    assert drafting.passes == pytest.approx(4 * verifying.passes)
    assert plan_decoding(0.0, 4).seconds > plain.seconds
    assert plan_decoding(0.9, 4).seconds < plain.seconds


def test_the_drafter_runs_on_the_targets_gpus() -> None:
    """No GPU more than the plain target's, and both models read the prompt."""
    methods = plan_whole(0.8, 4)
    step = methods[LABEL].step
    assert step.roles == ("target",)
    assert methods[LABEL].num_gpus == methods["target"].num_gpus
    assert [model.architecture for model in step.models] == [DRAFT.architecture, TARGET.architecture]
    prompt = sum(read("", model, rows=1, length=WORK.prompt_tokens, cached=0).seconds for model in step.models)
    assert methods[LABEL].seconds_per_answer == pytest.approx(prompt + WORK.num_steps * step.seconds)


def test_the_drafter_takes_memory_of_the_target() -> None:
    """Its weights and its part of the KV cache leave room for fewer jobs; prompts of 100,000 tokens show it."""
    work = replace(WORK, prompt_tokens=100_000.0, quantities=describe_engine(0.8, 4))
    made = make_plan({role: model.architecture for role, model in SETUP.models.items()}, GPUS["h100"], OURS, work)
    tokens, room = work.context + work.mean, made.memory["target"].kv_room
    assert made.methods["target"].full_batch.jobs_at_once == room // (tokens * TARGET.kv_bytes)
    assert made.methods[LABEL].full_batch.jobs_at_once == (room - DRAFT.weight_bytes) // (
        tokens * (TARGET.kv_bytes + DRAFT.kv_bytes)
    )


def test_at_full_batch_a_pass_holds_so_many_blocks_as_the_plain_target_has_rows() -> None:
    """256 jobs a pass: drafting a token each, verifying four each."""
    methods = plan_whole(0.5, 3)
    one = methods[LABEL]
    cycles, behind = WORK.num_steps * WORK.mean / 1.875, WORK.context + WORK.mean / 2
    drafter, target = one.step.models
    drafting = write("", drafter, rows=256, mean=1, longest=1, context=behind).seconds
    verifying = read("", target, rows=256, length=4, cached=behind).seconds
    prompts = sum(
        read("", model, rows=63, length=WORK.prompt_tokens, cached=0).seconds / 63 for model in one.step.models
    )
    assert one.full_batch.jobs_at_once == 256
    assert one.full_batch.busy_seconds["target"] == pytest.approx(
        cycles * (3 * drafting + verifying) / 256 + prompts, rel=1e-9
    )


def test_gsi_may_resample_speculatively() -> None:
    """The draft's part of a step is GSI's; the target writes all sixteen candidates in blocks of five tokens."""
    label = "gsi:speculative"
    work = replace(WORK, acceptance={"gsi": 0.9, label: 0.9}, quantities=describe_engine(0.7, 4, label))
    planned = plan_steps(make_setup(work=work))
    plain, step = planned["gsi"], planned[label]
    assert step.first == plain.first
    assert step.resampled is not None
    drafting, verifying, rating = step.resampled.phases
    of_longest = WORK.longest / Speculation(4, 0.7).tokens_per_cycle
    assert [drafting.passes, verifying.passes] == pytest.approx([4 * of_longest, of_longest])
    assert verifying.tokens == pytest.approx(16 * WORK.mean * 5 / Speculation(4, 0.7).tokens_per_cycle)
    assert (verifying.rows, rating.rows) == (16, 16)
    assert step.resampled.seconds > drafting.seconds + verifying.seconds


def test_the_target_judges_only_the_steps_of_which_the_draft_is_unsure() -> None:
    """ConfSpec: sure of 60 %, 80 % accepted. The draft judges each step, the target 40 %, and writes 20 %."""
    work = replace(WORK, acceptance={"conf-spec": 0.8}, quantities={Quantity.SURE: {"conf-spec": 0.6}})
    step = plan_steps(make_setup(work=work))["conf-spec"]
    assert [(phase.role, phase.is_writing, round(phase.share, 9)) for phase in step.phases] == [
        ("draft", True, 1.0),
        ("draft", False, 1.0),
        ("target", False, 0.4),
        ("target", True, 0.2),
    ]
    assert step.seconds == pytest.approx(sum(phase.share * phase.seconds for phase in step.phases))


def test_a_draft_that_is_never_sure_costs_spec_reason_and_its_own_judgements() -> None:
    """At 0 % the rest is SpecReason with the same acceptance; at 100 % the target never judges."""
    never, always = (
        plan_steps(
            make_setup(
                work=replace(
                    WORK,
                    acceptance={"conf-spec": 0.8, "spec-reason": 0.8},
                    quantities={Quantity.SURE: {"conf-spec": sure}},
                )
            )
        )
        for sure in (0.0, 1.0)
    )
    own = never["conf-spec"].phases[1].seconds
    assert never["conf-spec"].seconds == pytest.approx(never["spec-reason"].seconds + own)
    judging = never["spec-reason"].phases[1].seconds
    assert always["conf-spec"].seconds == pytest.approx(never["spec-reason"].seconds + own - judging)
