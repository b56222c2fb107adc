"""The planner's constants are measured on a CPU: what is timed is counted rightly, and the fit finds the constants."""

import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from benchmarks.cpu_constants import (
    UNIT,
    Observation,
    expect_seconds,
    fit_means,
    fit_processor,
    list_shapes,
    read_context,
    time_proposal,
    time_rating,
    time_scoring,
)
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.phases import Model, Phase, Processor, read, write
from gsi.planning.steps import Setup, Workload, plan_steps
from gsi.planning.systems import ContextReading, System
from gsi.runtime.installation import SHIPPED_MODELS

TRUE = Processor(flops=40e9, bandwidth=float("inf"), seconds_per_pass=0.0004, seconds_per_token=2e-5)


def make_model(role: Role) -> Model:
    return Model(role, find_architecture(role, str(SHIPPED_MODELS / role)), UNIT)


def list_calls(model: Model) -> list[tuple[Phase, ...]]:
    calls: list[tuple[Phase, ...]] = []
    for context, rows, length in list_shapes():
        written = write("", model, rows=rows, mean=length, longest=length, context=context)
        scored = read("", model, rows=rows, length=length, cached=context)
        calls += [(read_context(model, context), written), (read_context(model, context), scored)]
    return calls


def test_the_fit_finds_the_constants_that_made_the_seconds() -> None:
    """Seconds that follow from three constants give these three back."""
    calls = list_calls(make_model("target"))
    found = fit_processor([(call, expect_seconds(TRUE, call)) for call in calls])
    assert found.seconds_per_pass == pytest.approx(TRUE.seconds_per_pass, rel=1e-6)
    assert found.seconds_per_token == pytest.approx(TRUE.seconds_per_token, rel=1e-6)
    assert found.flops == pytest.approx(TRUE.flops, rel=1e-6)


def test_means_are_fitted() -> None:
    """A machine that is half as fast in the second round gives constants in the middle, whatever each round did."""
    rounds: list[list[Observation]] = []
    for scale in (1.0, 2.0):
        calls = list_calls(make_model("draft"))
        rounds.append([(call, scale * expect_seconds(TRUE, call)) for call in calls])
    found = fit_means(rounds)
    assert found.seconds_per_pass == pytest.approx(1.5 * TRUE.seconds_per_pass, rel=1e-6)
    assert found.flops == pytest.approx(TRUE.flops / 1.5, rel=1e-6)


def test_repeats_that_did_more_count_for_more() -> None:
    """Calls of different lengths add up to what they did and what they took."""
    calls = list_calls(make_model("draft"))
    rounds = [[(call, expect_seconds(TRUE, call)) for call in order] for order in (calls, calls[::-1])]
    assert fit_means(rounds).seconds_per_pass == pytest.approx(TRUE.seconds_per_pass, rel=1e-6)


@pytest.mark.parametrize(("role", "act"), [("draft", time_proposal), ("target", time_scoring), ("prm", time_rating)])
async def test_a_call_to_an_engine_is_counted_as_what_it_does(
    role: Role, act: Callable[..., Awaitable[Observation]]
) -> None:
    """A pass over the context, then the candidates' passes and tokens, of a real engine."""
    model, folder = make_model(role), str(SHIPPED_MODELS / role)
    engines: Any = REWARD_ENGINES if role == "prm" else LANGUAGE_ENGINES
    tokenizer = (Tokenizer(folder, None),) if role == "prm" else ()
    with closing(await engines.load("transformers", EngineSettings(folder, num_threads=1))) as engine:
        (context, candidates), seconds = await act(engine, *tokenizer, model, random.Random(0), 48, 4, 8)
    assert seconds > 0
    assert context.passes == 1
    assert context.tokens == pytest.approx(48, abs=8)  # the PRM reads text through its template
    assert candidates.is_writing == (role == "draft")
    if role == "draft":
        assert 4 <= candidates.tokens <= 4 * 8
        assert 0 <= candidates.passes <= 7  # the context's pass gives the first token of each
    else:
        assert candidates.passes == 1
        assert candidates.tokens == pytest.approx(4 * 8, abs=8)


def test_cores_that_the_models_share_limit_the_overlap() -> None:
    """With a core each the scorers' reading is hidden; on one core everything adds up, and so do the calls."""
    system = System(
        "cpu", ContextReading.LAST_STEP, has_overlap=True, reads_before_writing=True, seconds_per_call=0.001
    )
    roles: tuple[Role, ...] = ("draft", "target", "prm")
    models = {role: Model(role, make_model(role).architecture, TRUE) for role in roles}
    work = Workload(4, 60.0, 7.0, 6.0, 512, {"gsi": 1.0, "rsd": 1.0}, longest_tokens=8.0, num_last=2.0, num_ends=2.0)
    of_cores = {cores: plan_steps(Setup(models, system, work, cores))["gsi"] for cores in (1, 2, 3)}
    work_of_all = sum(phase.share * phase.seconds for phase in of_cores[1].phases)
    assert of_cores[1].seconds == pytest.approx(work_of_all + 0.001)
    assert of_cores[3].seconds <= of_cores[2].seconds < of_cores[1].seconds
    assert [phase.role for phase in of_cores[1].first.phases] == ["draft", "draft", "target", "prm", "target", "prm"]


def test_kept_prefixes_leave_the_last_step_to_read() -> None:
    """A request reads the tokens of one step, whatever stands before them."""
    models: dict[Role, Model] = {
        role: Model(role, make_model(role).architecture, TRUE) for role in ("draft", "target", "prm")
    }
    work = Workload(4, 60.0, 7.0, 6.0, 512, {"gsi": 1.0, "rsd": 1.0}, longest_tokens=8.0)
    system = System("cpu", ContextReading.LAST_STEP, has_overlap=True, reads_before_writing=True)
    phases = plan_steps(Setup(models, system, work, 2))["gsi"].first.phases
    assert [phase.tokens for phase in phases if phase.name.endswith("reads context")] == [7.0] * 3
