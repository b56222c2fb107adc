"""The coordinator's series: what a step adds to them, and which labels they have. No series grows without bound."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pkgutil import resolve_name

import pytest
from prometheus_client import REGISTRY

from gsi.algorithm.candidates import Branch, Candidate, FinishReason, Judgement, Outcome, Rejected, Source, Step
from gsi.algorithm.params import Params
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import Round
from gsi.jobs.state import JobState
from gsi.jobs.tenant_label import MAX_TENANTS
from gsi.runtime.series import Declaration, Series
from services.coordinator import metrics
from tests.test_docs import DOCS, text_of

DECLARING = re.findall(r"<!-- series: (\S+) -->", text_of(DOCS / "metrics.md"))

# What bounds a label whose values cannot be listed. An entry here needs thought.
BOUNDED_BY = {
    "code": "gRPC has 17",
    "gpu": "the GPUs of a machine",
    "uuid": "the GPUs of a machine",
    "draft": "the models that a deployment has had since the process began",
    "target": "the models that a deployment has had since the process began",
    "prm": "the models that a deployment has had since the process began",
    "model": "one per process",
    "revision": "one per process",
    "engine": "one per process",
    "engine_version": "one per process",
    "route": "the gateway has some ten",
    "tenant": "MAX_TENANTS and one for all others (gsi/jobs/tenant_label.py)",
    "status": "HTTP has some sixty, of which the gateway gives fifteen",
}


def declarations() -> Iterator[Declaration]:
    """Yield the declaration of every series in the code; docs/metrics.md has a row for each."""
    for where in DECLARING:
        series: Series = resolve_name(where)
        yield from series.declarations


def test_every_label_has_values_that_are_listed_or_bounded() -> None:
    """No label holds a job, every tenant, a queue or a text: each label value is a series that stays."""
    told = {(name, isinstance(values, str)) for declared in declarations() for name, values in declared.labels.items()}
    assert {name for name, is_in_words in told if is_in_words} == set(BOUNDED_BY)
    assert len(told) > len(BOUNDED_BY)
    assert max(len(list(declared.combinations)) for declared in declarations()) < 50


def test_a_label_of_an_info_is_not_one_that_grows() -> None:
    """Another model at the same address replaces the previous labels; before the first model there is no sample."""
    metrics.MODELS_INFO.gauge.clear()
    assert [family.samples for family in metrics.MODELS_INFO.gauge.collect()] == [[]]
    for names in (("a", "b", "c"), ("d", "b", "c")):
        metrics.MODELS_INFO.tell(**dict(zip(("draft", "target", "prm"), names, strict=True)))
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == "gsi_models_info"]
    assert [sample.labels["draft"] for sample in samples] == ["d"]


def test_what_may_happen_is_served_as_0_before_it_does() -> None:
    """So the first failure is an increase, and a dashboard shows 0 instead of "no data"."""
    for declared in metrics.series.declarations:
        if declared.name == "gsi_tokens_total":
            continue
        suffix = "_count" if declared.kind == "histogram" else ""
        for labels in declared.combinations:
            assert REGISTRY.get_sample_value(f"{declared.name}{suffix}", labels) is not None


def test_a_run_is_counted_for_its_tenant() -> None:
    """Its time always, its job's end if that is final. Beyond so many tenants, one value stands for all others."""

    def count(state: JobState) -> float:
        return REGISTRY.get_sample_value("gsi_tenant_jobs_ended_total", {"tenant": "counted", "state": state}) or 0.0

    metrics.observe_tenant("counted", JobState.QUEUED, 2.0)
    metrics.observe_tenant("counted", JobState.DEAD, 3.0)
    assert {state: count(state) for state in metrics.FINAL_STATES if count(state)} == {JobState.DEAD: 1}
    assert REGISTRY.get_sample_value("gsi_tenant_run_seconds_total", {"tenant": "counted"}) == 5.0
    for number in range(2 * MAX_TENANTS):
        metrics.observe_tenant(f"tenant-{number}", JobState.SUCCEEDED, 1.0)
    samples = [sample for family in metrics.TENANT_SECONDS.collect() for sample in family.samples]
    assert len({sample.labels["tenant"] for sample in samples}) <= MAX_TENANTS + 1


# --- What a step adds ------------------------------------------------------------------------------------------------

STEP = Step(0, (1, 2), "a\n\n", Source.DRAFT, Outcome.ACCEPTED, FinishReason.DELIMITER, 0.9, 0.9, tilted_reward=0.75)
REJECTED = Rejected("b\n\n", 0.2, 0.25, -1.0, -2.0)
CANDIDATE = Candidate(0, (1, 2), "a\n\n", -1.0, FinishReason.DELIMITER)
DRAFTED = Proposal(
    Source.DRAFT,
    (CANDIDATE,),
    scores={"prm": [0.9], "target": [-2.0]},
    seconds={"propose": 0.5, "prm": 0.75, "target": 1.0},
    first_seconds=0.25,
)


def made(step: Step) -> Round:
    return Round((Branch(0, step),), (DRAFTED,))


def added(observe: Callable[[], None], name: str, labels: Mapping[str, str] | None = None) -> float:
    """Return what a call adds to a sample."""
    before = REGISTRY.get_sample_value(name, dict(labels or {})) or 0.0
    observe()
    return (REGISTRY.get_sample_value(name, dict(labels or {})) or 0.0) - before


def observed(step: Step, method: str = "gsi") -> Callable[[], None]:
    return lambda: metrics.observe_step(made(step), Params(method=method, acceptance_threshold=0.5), {})


def below(edge: str, step: Step) -> float:
    return added(observed(step), "gsi_acceptance_margin_bucket", {"le": edge})


def test_the_margin_is_the_tested_candidate_s_tilted_reward_minus_u() -> None:
    """Of an accepted candidate 0.25 above u; of a rejected candidate 0.25 below, whatever replaced it."""
    resampled = replace(STEP, outcome=Outcome.RESAMPLED, tilted_reward=None, rejected=REJECTED)
    assert [below(edge, STEP) for edge in ("0.0", "0.2", "0.3")] == [0, 0, 1]
    assert [below(edge, resampled) for edge in ("-0.3", "-0.2", "0.0")] == [0, 1, 1]


@pytest.mark.parametrize("method", ["gsi-no-rejection", "rsd", "soft-best-of-n"])
def test_a_method_that_tests_no_tilted_reward_has_no_margin(method: str) -> None:
    """Such a method compares nothing with u."""
    assert added(observed(STEP, method), "gsi_acceptance_margin_count") == 0


def test_a_margin_without_end_is_left_out() -> None:
    """A candidate that the target excludes has a tilted reward of -inf, which has no place in a histogram."""
    excluded = replace(STEP, outcome=Outcome.RESAMPLED, rejected=replace(REJECTED, tilted_reward=float("-inf")))
    assert added(observed(excluded), "gsi_acceptance_margin_count") == 0


@pytest.mark.parametrize(("index", "shown"), [(0, "0"), (15, "15"), (16, "16+"), (44, "16+")])
def test_steps_are_counted_by_their_place(index: int, shown: str) -> None:
    """Late places share a label value: an answer may have any number of steps."""
    labels = {"index": shown, "outcome": "accepted"}
    assert added(observed(replace(STEP, index=index)), "gsi_steps_by_index_total", labels) == 1


def test_what_a_judge_read_is_counted_for_its_model() -> None:
    """Among the tokens that a model scored."""
    judged = replace(STEP, judgements=(Judgement(Source.DRAFT, (0.1, 0.9), 1.0, 40),))
    assert added(observed(judged, "conf-spec"), "gsi_tokens_total", {"role": "draft", "kind": "scored"}) == 40


def test_scoring_is_timed_from_the_first_candidate_on() -> None:
    """For each model: the time before the first candidate was drafting."""
    for role, seconds in (("prm", 0.5), ("target", 0.75)):
        assert added(observed(STEP), "gsi_scoring_seconds_sum", {"role": role}) == pytest.approx(seconds)
