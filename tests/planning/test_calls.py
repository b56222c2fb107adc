"""Every method has a plan or a sentence that says why not; shares and trajectories count as by hand."""

from dataclasses import replace

import pytest

from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.jobs.job import parse_payload
from gsi.planning import steps
from gsi.planning.calls import CALLS, NAMES, Again, Ask, Calls, Trajectories, find_unplanned, name_calls
from gsi.planning.gpus import GPUS
from gsi.planning.phases import read
from gsi.planning.quantities import Given, Quantity, say_missing
from gsi.planning.report import make_plan, to_json
from gsi.planning.steps import plan_steps
from gsi.planning.systems import OURS, PAPER
from tests.planning.worlds import WORK, make_setup

ARCHITECTURES = {role: model.architecture for role, model in make_setup().models.items()}


def plan_made(monkeypatch: pytest.MonkeyPatch, calls: Calls, share: float = 0.75) -> steps.Step:
    """Return a step of a method that is not there, three quarters of whose steps are the draft's."""
    monkeypatch.setattr(steps, "CALLS", {"made": calls})
    return plan_steps(make_setup(work=replace(WORK, acceptance={"made": share})))["made"]


def explain(given: Given, *names: str) -> dict[str, str]:
    """Return why methods are not planned."""
    return {label: say_missing(missing, label) for label, missing in find_unplanned(given, names or NAMES)}


def read_params(label: str) -> Params:
    """Return the parameters of a job whose method is this label, which is a shorthand; a rule for n gets a name."""
    return parse_payload(
        {"prompt": "-", "params": {"method": label.replace("n_rule", "n_rule=pandora")}}
    ).params.to_params()


def test_every_method_has_a_plan_or_a_reason() -> None:
    """No method is left out in silence, the table names no method that does not exist, and what is missing is named."""
    assert set(NAMES) == set(METHODS)
    given = {
        quantity: {label: 0.5 for label, calls in CALLS.items() if quantity in calls.reads} for quantity in Quantity
    }
    assert explain(given) == {}
    assert explain({}).keys() == {label for label, calls in CALLS.items() if list(calls.needs)}


@pytest.mark.parametrize("label", CALLS)
def test_what_a_method_asks_is_what_its_definition_says(label: str) -> None:
    """The label is a shorthand; the models of its plan are those that the method names for such a job."""
    calls, params = CALLS[label], read_params(label)
    method = METHODS[params.method]
    asks = [calls.first, *([calls.again] if calls.again else [])]
    scorers = {role for ask in asks for role in ask.scorers}
    assert {ask.writer for ask in asks} == {str(writer) for writer in method.writers(params)}
    assert ("prm" in scorers) == method.asks_rewards(params)
    assert ("target" in scorers) == method.asks_likelihoods(params)
    assert {judge for ask in asks for judge in ask.judges} == {str(judge) for judge in method.judges(params)}
    assert method.can_reject <= (calls.again is not None)
    assert calls.has_one_row == ("n" not in method.parameters)
    assert calls.has_n_rule == (params.n_rule is not None)
    assert not calls.is_of_responses or "scope" in method.parameters


def test_every_variant_of_a_method_that_changes_its_calls_is_in_the_table() -> None:
    """Each model that may write, whole responses, adaptive n and speculation, wherever a method reads the parameter."""
    options = {
        "role": ("draft", "target"),
        "scope": ("responses",),
        "n_rule": ("n_rule",),
        "resample": ("speculative",),
    }
    for name, method in METHODS.items():
        labels = {label for label in CALLS if label.partition(":")[0] == name}
        for parameter, words in options.items():
            found = {word for word in words for label in labels if word in label.split(":")[1:]}
            assert found == (set(words) if parameter in method.parameters else set()), (name, parameter)


@pytest.mark.parametrize("label", CALLS)
def test_a_jobs_parameters_name_its_calls(label: str) -> None:
    """A result has every parameter written out, also those that its method does not read."""
    spec = label.replace("n_rule", "n_rule=pandora")
    params = parse_payload({"prompt": "-", "params": {"method": spec}}).params.model_dump(mode="json")
    assert name_calls(params) == label


def test_parameters_that_a_method_does_not_read_name_no_other_calls() -> None:
    """A vote has no rewards for a rule to read."""
    both = {"scope": "responses", "n_rule": {"name": "pandora"}}
    assert name_calls({"method": "gsi", **both}) == "gsi:responses:n_rule"
    assert name_calls({"method": "majority-vote", "role": "target", **both}) == "majority-vote:target"
    assert name_calls({"method": "rsd", "weighting": {"name": "binary"}}) == "rsd"
    assert name_calls({"method": "new-method"}) is None


def test_a_method_whose_share_is_not_known_gets_a_sentence() -> None:
    """The sentence tells the option; with the share there is a plan."""
    accepted = {Quantity.ACCEPTANCE: {"rsd": 0.97}}
    assert "gsi" in explain(accepted)
    assert explain({})["gsi"] == "the share of steps that are accepted is not known; --accept gsi=SHARE gives it"
    assert "gsi" not in plan_steps(make_setup(work=replace(WORK, acceptance={"rsd": 0.97})))
    assert "rsd" not in explain(accepted)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "conf-spec",
            "the share of steps that are accepted and the share of steps of which the draft is sure are not known; "
            "--accept conf-spec=SHARE and --sure conf-spec=SHARE give them",
        ),
        (
            "speculative-decoding",
            "the probability that a drafted token is accepted and the number of tokens that the engine drafts at a "
            "time are not known; --token-acceptance SHARE and --speculative-tokens N give them",
        ),
        (
            "gsi:speculative",
            "the share of steps that are accepted, the probability that a drafted token is accepted and the number of "
            "tokens that the engine drafts at a time are not known; "
            "--accept gsi:speculative=SHARE, --token-acceptance SHARE and --speculative-tokens N give them",
        ),
        (
            "confidence-vote:target",
            "the share of the tokens of n responses that are written is not known; "
            "--written confidence-vote:target=SHARE gives it",
        ),
        (
            "gsi:responses",
            "the share of responses that are accepted is not known; --accept gsi:responses=SHARE gives it",
        ),
        (
            "best-of-n:draft:n_rule",
            "the mean number of candidates is not known; --mean-n best-of-n:draft:n_rule=N gives it",
        ),
    ],
)
def test_a_sentence_names_everything_that_is_missing(label: str, said: str) -> None:
    """Words for each quantity, and the options that give them."""
    assert explain({})[label] == said


def test_a_quantity_that_is_given_is_not_asked_for_again() -> None:
    """ConfSpec needs two; one of them is given."""
    assert explain({Quantity.SURE: {"conf-spec": 0.6}})["conf-spec"] == (
        "the share of steps that are accepted is not known; --accept conf-spec=SHARE gives it"
    )


def test_an_unknown_method_gets_a_sentence_and_no_number() -> None:
    """A method that the planner has never heard of."""
    assert explain({}, "new-method") == {
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
    step = plan_made(monkeypatch, Calls(Ask("draft", judges=("target",)), Ask("target"), has_one_row=True))
    writing, judging, _ = step.phases
    assert judging.tokens == pytest.approx(WORK.mean + steps.QUESTION_TOKENS)
    assert step.first.seconds == pytest.approx(writing.seconds + judging.seconds)
    model = make_setup().models["target"]
    whole = read("", model, rows=1, length=judging.tokens, cached=WORK.context)
    outputs = model.architecture.flops_per_output
    assert whole.flops - judging.flops == pytest.approx((judging.tokens - 1) * outputs)


def test_a_judge_without_a_cache_reads_the_context_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's system caches nothing for scorers."""
    monkeypatch.setattr(steps, "CALLS", {"made": Calls(Ask("draft", judges=("target",)), has_one_row=True)})
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
    assert plain["unplanned"].keys() == explain(WORK.given).keys()
