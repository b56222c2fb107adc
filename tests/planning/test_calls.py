"""Every method has a plan or a sentence that says why not; shares and trajectories count as by hand."""

from dataclasses import replace

import pytest

from gsi.algorithm.candidates import Source
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.planning import steps
from gsi.planning.calls import CALLS, UNPLANNED, Again, Ask, Calls, Trajectories, explain_unplanned
from gsi.planning.gpus import GPUS
from gsi.planning.phases import read
from gsi.planning.report import make_plan, to_json
from gsi.planning.steps import plan_steps
from gsi.planning.systems import OURS, PAPER
from tests.planning.worlds import WORK, make_setup

ARCHITECTURES = {role: model.architecture for role, model in make_setup().models.items()}


def plan_made(monkeypatch: pytest.MonkeyPatch, calls: Calls, share: float = 0.75) -> steps.Step:
    """Return a step of a method that is not there, three quarters of whose steps are the draft's."""
    monkeypatch.setattr(steps, "CALLS", {"made": calls})
    return plan_steps(make_setup(work=replace(WORK, acceptance={"made": share})))["made"]


def test_every_method_has_a_plan_or_a_reason() -> None:
    """No method is left out in silence, and the tables name no method that does not exist."""
    planned = {label.partition(":")[0] for label in CALLS}
    assert planned | set(UNPLANNED) <= set(METHODS)
    assert not planned & set(UNPLANNED)
    assert planned | dict(explain_unplanned({}, METHODS)).keys() >= set(METHODS)


def test_what_a_method_asks_is_what_its_definition_says() -> None:
    """The models of a plan are those that the method names: writers, the PRM where it asks for rewards."""
    for label, calls in CALLS.items():
        name, _, role = label.partition(":")
        method, params = METHODS[name], Params(method=name, role=Source(role or "draft"))
        asked = {calls.first, *([calls.again] if calls.again else [])}
        scorers = {role for ask in asked for role in ask.scorers}
        assert {ask.writer for ask in asked} == {str(writer) for writer in method.writers(params)}, label
        assert ("prm" in scorers) == method.asks_rewards(params), label
        assert ("target" in scorers) == method.asks_likelihoods(params), label
        assert {ask.judge for ask in asked if ask.judge} == {str(judge) for judge in method.judges(params)}, label
        assert method.can_reject <= (calls.again is not None), label
        assert calls.has_one_row == ("n" not in method.parameters), label
        assert bool(role) == ("role" in method.parameters), label


def test_a_method_whose_share_is_not_known_gets_a_sentence() -> None:
    """The sentence tells the option; with the share there is a plan."""
    assert "gsi" in dict(explain_unplanned({"rsd": 0.97}))
    assert "--accept gsi=SHARE" in dict(explain_unplanned({}))["gsi"]
    assert "gsi" not in plan_steps(make_setup(work=replace(WORK, acceptance={"rsd": 0.97})))
    assert "not known" in dict(explain_unplanned(WORK.acceptance))["speculative-decoding"]


def test_an_unknown_method_gets_a_sentence_and_no_number() -> None:
    """A method that the planner has never heard of."""
    assert dict(explain_unplanned({}, ["new-method"])) == {
        "new-method": "the planner does not know which calls a step makes (gsi/planning/calls.py)"
    }


@pytest.mark.parametrize(
    ("when", "first", "again"),
    [(Again.IF_REJECTED, 1.0, 0.25), (Again.INSTEAD, 0.75, 0.25), (Again.ALWAYS, 1.0, 1.0)],
)
def test_the_second_writer_writes_in_its_share_of_the_steps(
    monkeypatch: pytest.MonkeyPatch, when: Again, first: float, again: float
) -> None:
    """Behind a rejected step, in place of the draft, or in every step."""
    step = plan_made(monkeypatch, Calls(Ask("draft", ("prm",)), Ask("target", ("prm",)), when))
    assert [(phase.role, phase.share) for phase in step.phases] == [
        ("draft", first),
        ("prm", first),
        ("target", again),
        ("prm", again),
    ]
    assert step.resampled is not None
    assert step.seconds == pytest.approx(first * step.first.seconds + again * step.resampled.seconds)


def test_a_judge_reads_one_step_and_the_question_when_the_step_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """25 tokens and 40 behind the cached context, with the output of one token; its seconds follow the writing's."""
    step = plan_made(monkeypatch, Calls(Ask("draft", judge="target"), Ask("target"), has_one_row=True))
    writing, judging, _ = step.phases
    assert judging.tokens == pytest.approx(WORK.mean + steps.QUESTION_TOKENS)
    assert step.first.seconds == pytest.approx(writing.seconds + judging.seconds)
    model = make_setup().models["target"]
    whole = read("", model, rows=1, length=judging.tokens, cached=WORK.context)
    outputs = model.architecture.flops_per_output
    assert whole.flops - judging.flops == pytest.approx((judging.tokens - 1) * outputs)


def test_a_judge_without_a_cache_reads_the_context_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's system caches nothing for scorers."""
    monkeypatch.setattr(steps, "CALLS", {"made": Calls(Ask("draft", judge="target"), has_one_row=True)})
    judging = plan_steps(make_setup(PAPER))["made"].phases[-1]
    assert judging.tokens == pytest.approx(WORK.mean + steps.QUESTION_TOKENS + WORK.context)


def test_a_method_of_one_candidate_writes_one_whatever_n_is() -> None:
    """The draft alone writes the mean tokens; majority vote writes sixteen times as many."""
    planned = plan_steps(make_setup())
    assert planned["draft"].phases[0].tokens == pytest.approx(WORK.mean)
    assert planned["majority-vote:draft"].phases[0].tokens == pytest.approx(16 * WORK.mean)


def test_each_trajectory_keeps_its_own_context() -> None:
    """Sixteen responses need sixteen contexts in the KV cache, four beams four, so fewer jobs fill a GPU."""
    assert [kind.count(16) for kind in Trajectories] == [1, 4, 16]
    small = {**ARCHITECTURES, "target": replace(ARCHITECTURES["target"], num_key_value_heads=28)}
    work = replace(WORK, prompt_tokens=20_000.0)
    made = make_plan(small, GPUS["h100"], OURS, work)
    room = made.memory["target"].kv_room / made.setup.models["target"].kv_bytes
    for label, contexts in (("soft-best-of-n:target", 1), ("beam-search:target", 4), ("majority-vote:target", 16)):
        fits = int(room // (contexts * work.context + 16 * work.mean))
        assert made.methods[label].full_batch.jobs_at_once == max(1, min(16, fits))
    jobs = {label: one.full_batch.jobs_at_once for label, one in made.methods.items()}
    assert jobs["majority-vote:target"] <= jobs["beam-search:target"] < jobs["soft-best-of-n:target"]


def test_the_json_tells_what_is_not_planned() -> None:
    """A share that no run told is null, and each method without a plan has its reason."""
    plain = to_json(make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK))
    assert plain["methods"]["gsi-no-rejection"]["acceptance"] is None
    assert plain["methods"]["gsi"]["acceptance"] == 0.9
    assert plain["unplanned"].keys() == dict(explain_unplanned(WORK.acceptance)).keys()
