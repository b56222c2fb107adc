"""A job's parameters: shorthand written out, what does not go together, JSON there and back, and the schema."""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Source
from gsi.algorithm.judging import JudgePrompt, JudgeScore
from gsi.algorithm.methods import METHODS
from gsi.algorithm.n_rule import N_RULES, PandoraRule
from gsi.algorithm.params import Aggregate, Params, ParticleChoice, ParticleWeights, Preset, Resample, Scope
from gsi.algorithm.reward_map import REWARD_MAPS, LogisticMap, Raw, Threshold
from gsi.algorithm.weighting import (
    WEIGHTINGS,
    Binary,
    Budget,
    Clip,
    Constant,
    Hybrid,
    LikelihoodRatio,
    Logistic,
    NormalisedHybrid,
    Weighting,
)
from gsi.errors import InvalidRequestError
from gsi.jobs.job import parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.payload import JobPayload

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "job.schema.json").read_text())
NAMES = "constant, binary, clip, sigmoidal, logistic, likelihood-ratio, hybrid, normalised-hybrid, budget"


def parsed(params: Mapping[str, Any]) -> JobParams:
    return parse_payload({"prompt": "x", "params": params}).params


def error_of(params: Mapping[str, Any]) -> str:
    with pytest.raises(InvalidRequestError) as raised:
        parsed(params)
    return str(raised.value)


# --- Shorthand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "written_out"),
    [
        ("gsi:beta=8:u=0.3", {"method": "gsi", "beta": 8, "acceptance_threshold": 0.3}),
        ("soft-best-of-n:target", {"method": "soft-best-of-n", "role": "target"}),
        ("rsd:logistic=10/0.5", {"method": "rsd", "weighting": {"name": "logistic", "alpha": 10, "delta": 0.5}}),
        ("rsd:weighting=logistic=10/0.5", {"method": "rsd", "weighting": "logistic=10/0.5"}),
        ("best-of-n:product", {"method": "best-of-n", "scope": "responses", "aggregate": "product"}),
        ("beam-search:width=2", {"method": "beam-search", "beam_width": 2}),
        ("rsd:speculative", {"method": "rsd", "resample": "speculative"}),
    ],
)
def test_shorthand_is_the_same_job_as_what_it_stands_for(method: str, written_out: Mapping[str, Any]) -> None:
    """``name:option`` is written out before anything is checked; the rest of the payload stands beside it."""
    assert parsed({"method": method, "seed": 3}) == parsed({**written_out, "seed": 3})


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"method": "gsi:n=4", "n": 5}, "n"),
        ({"method": "gsi:u=0.3", "acceptance_threshold": 0.4}, "acceptance_threshold"),
        ({"method": "rsd:binary", "weighting": {"name": "clip"}}, "weighting"),
        ({"method": "best-of-n:minimum", "scope": "steps"}, "scope"),
    ],
)
def test_what_a_method_says_is_not_said_otherwise(params: Mapping[str, Any], field: str) -> None:
    """Nobody has to know which of the two would win."""
    assert error_of(params) == f'params.{field}: method "{params["method"]}" says it, too; allowed: once'


def test_what_is_said_twice_alike_is_no_contradiction() -> None:
    """Best-of-n by minimum is of responses, whether that is said or not."""
    alike = {"method": "best-of-n:responses:minimum", "scope": "responses"}
    assert parsed(alike) == parsed({"method": "best-of-n:minimum"})


def test_values_in_shorthand_are_checked_as_any_other() -> None:
    """The error is that of the parameter."""
    assert error_of({"method": "gsi:n=0"}) == "params.n: 0 is not allowed; allowed: a whole number from 1 to 256"
    assert error_of({"method": "gsi:n=many"}).startswith('params.n: "many" is not allowed')
    assert error_of({"method": "rsd:constant=2"}) == "params.weighting: p is 2; allowed: a number from 0 to 1"


# --- To the algorithm ---------------------------------------------------------------------------------------------


def test_every_parameter_reaches_the_algorithm() -> None:
    """None of those that decide an answer is forgotten on the way."""
    params = parsed(
        {
            "method": "beam-search",
            "n": 9,
            "n_target": 5,
            "beta": 2,
            "acceptance_threshold": 0.25,
            "role": "target",
            "weighting": {"name": "constant", "p": 0.25},
            "scope": "responses",
            "aggregate": "product",
            "beam_width": 2,
            "beam_expansion": 7,
            "resample": "speculative",
            "reward_map": {"name": "threshold", "center": 3},
            "preset": "authors",
            "router_threshold": 0.25,
            "temperature": 0.5,
            "max_steps": 6,
            "judge_prompt": "verdict",
            "judge_score": "mean",
            "judge_threshold": 0.75,
            "confidence_threshold": 0.8,
            "first_target_steps": 2,
            "particle_weights": "tilted",
            "resample_below": 0.25,
            "particle_choice": "sample",
            "switch_threshold": 0.5,
            "n_rule": {"name": "pandora", "cost": 0.125},
            "vote_warmup": 3,
            "vote_percentile": 90,
            "vote_consensus": 0.75,
            "rejected_share": 0.25,
        }
    ).to_params()
    expected = Params(
        method="beam-search",
        n=9,
        n_target=5,
        beta=2.0,
        acceptance_threshold=0.25,
        role=Source.TARGET,
        weighting=Constant(0.25),
        scope=Scope.RESPONSES,
        aggregate=Aggregate.PRODUCT,
        beam_width=2,
        beam_expansion=7,
        resample=Resample.SPECULATIVE,
        reward_map=Threshold(3.0),
        sampling=params.sampling,
        stop=params.stop,
        preset=Preset.AUTHORS,
        judge_prompt=JudgePrompt.VERDICT,
        judge_score=JudgeScore.MEAN,
        judge_threshold=0.75,
        confidence_threshold=0.8,
        first_target_steps=2,
        particle_weights=ParticleWeights.TILTED,
        resample_below=0.25,
        particle_choice=ParticleChoice.SAMPLE,
        switch_threshold=0.5,
        n_rule=PandoraRule(0.125),
        vote_warmup=3,
        vote_percentile=90.0,
        vote_consensus=0.75,
        rejected_share=0.25,
        router_threshold=0.25,
    )
    assert params == expected
    assert (params.sampling.temperature, params.stop.max_steps) == (0.5, 6)
    unlike_default = [f.name for f in fields(Params) if f.default is MISSING or getattr(params, f.name) != f.default]
    assert unlike_default == [field.name for field in fields(Params) if field.name != "router"]  # the coordinator's


def test_the_defaults_of_a_job_are_those_of_the_algorithm() -> None:
    """Two lists of defaults, one meaning."""
    assert JobParams().to_params() == Params()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_by_its_name_has_the_classs_defaults(name: str) -> None:
    """As an object and as a word."""
    for written in (name, {"name": name}):
        assert parsed({"method": "rsd", "weighting": written}).to_params().weighting == WEIGHTINGS[name]()


@pytest.mark.parametrize("name", REWARD_MAPS)
def test_a_reward_map_by_its_name_has_the_classs_defaults(name: str) -> None:
    """The same for both registries."""
    assert parsed({"reward_map": {"name": name}}).to_params().reward_map == REWARD_MAPS[name]()


@pytest.mark.parametrize(
    ("chosen", "is_bounded", "reward_map"),
    [
        (None, True, Raw()),
        (None, False, LogisticMap()),
        ({"name": "raw"}, False, Raw()),
        ({"name": "threshold", "center": 2}, True, Threshold(2.0)),
    ],
)
def test_the_reward_map_in_force_is_the_jobs_or_fits_the_model(
    chosen: Mapping[str, Any] | None, is_bounded: bool, reward_map: object
) -> None:
    """A job that chose none gets probabilities, and its result says which map that was."""
    in_force = parsed({"reward_map": chosen}).in_force(has_bounded_rewards=is_bounded, seed=5)
    assert in_force.to_params().reward_map == reward_map
    assert in_force.seed == 5
    again = JobParams.model_validate_json(in_force.model_dump_json())
    assert again == in_force


# --- What does not go together ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["gsi", "gsi-no-rejection", "rsd:likelihood-ratio", "rsd:hybrid", "rsd:normalised-hybrid"]
)
def test_a_method_that_needs_a_likelihood_ratio_cannot_be_greedy(method: str) -> None:
    """At temperature 0 every likelihood is 1: the error names the field."""
    name = method.partition(":")[0]
    assert error_of({"method": method, "temperature": 0}) == (
        f"params.temperature: 0 is greedy, where a likelihood ratio says nothing, and {name} needs one; "
        "allowed: a number from 0.01 to 10"
    )


@pytest.mark.parametrize(
    "method", ["rsd", "rsd:logistic", "rsd:budget", "soft-best-of-n", "best-of-n", "draft", "target"]
)
def test_others_can(method: str) -> None:
    """RSD, section 3: "setting temperature = 0 [...] for the remaining methods"."""
    assert parsed({"method": method, "temperature": 0}).temperature == 0


def test_a_temperature_just_above_0_is_refused() -> None:
    """It would overflow the logits; 0 is what was meant."""
    assert error_of({"method": "draft", "temperature": 0.001}) == (
        "params.temperature: 0.001 is not allowed; allowed: 0 (greedy), or a number from 0.01 to 10"
    )


@pytest.mark.parametrize("method", ["majority-vote", "draft", "target", "speculative-decoding"])
def test_a_reward_floor_needs_rewards(method: str) -> None:
    """These methods ask for none, so every step would be below it."""
    assert error_of({"method": method, "reward_floor": 0.1}) == (
        f"params.reward_floor: method {method} asks for no reward; allowed: null"
    )


def test_a_round_of_beam_search_has_as_many_candidates_as_any_step_may() -> None:
    """Width times expansion is what an engine gets at once."""
    assert parsed({"method": "beam-search:width=16:expansion=16"}).beam_width == 16
    assert error_of({"method": "beam-search:width=16:expansion=17"}) == (
        "params.beam_width, params.beam_expansion: 272 candidates a round; allowed: at most 256"
    )


@pytest.mark.parametrize(
    ("method", "needs_it"),
    [("speculative-decoding", True), ("rsd:speculative", True), ("rsd", False), ("target", False)],
)
def test_which_jobs_need_an_engine_that_decodes_speculatively(method: str, needs_it: bool) -> None:
    """The coordinator holds this against what the target says of itself."""
    params = parsed({"method": method})
    assert METHODS[params.method].needs_speculation(params.to_params()) is needs_it


# --- Errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"method": "xyz"}, 'params.method: "xyz" is not allowed; allowed: gsi, gsi-no-rejection, rsd, '),
        ({"method": None}, "params.method: null is not allowed; allowed: gsi, gsi-no-rejection, rsd, "),
        ({"role": "prm"}, 'params.role: "prm" is not allowed; allowed: draft, target'),
        ({"scope": "all"}, 'params.scope: "all" is not allowed; allowed: steps, responses'),
        ({"method": "particle-filter:tilted:target"}, "params.role: tilted particles are the draft's; allowed: draft"),
        ({"resample_below": 2}, "params.resample_below: 2 is not allowed; allowed: a number from 0 to 1"),
        ({"vote_consensus": 0.5}, "params.vote_consensus: 0.5 is not allowed; allowed: a number above 0.5, at most 1"),
        ({"rejected_share": 1}, "params.rejected_share: 1 is not allowed; allowed: a number from 0.01 to 0.99"),
        ({"aggregate": "mean"}, 'params.aggregate: "mean" is not allowed; allowed: last, minimum, product'),
        ({"resample": "draft"}, 'params.resample: "draft" is not allowed; allowed: target, speculative'),
        ({"u": 0.5}, "params.u: unknown; did you mean acceptance_threshold?"),
        ({"weigthing": "clip"}, "params.weigthing: unknown; did you mean weighting?"),
        ({"weighting": "xyz"}, f'params.weighting: "xyz" is not allowed; allowed: {NAMES}'),
        (
            {"weighting": {"name": "xyz"}},
            f'params.weighting: {{"name": "xyz"}} is not allowed; allowed: an object with a name of {NAMES}',
        ),
        (
            {"weighting": 3},
            f"params.weighting: 3 is not allowed; allowed: an object with a name of {NAMES}",
        ),
        (
            {"weighting": {"name": "binary", "dleta": 1}},
            "params.weighting.binary.dleta: unknown; allowed: name, delta",
        ),
        (
            {"weighting": {"name": "binary", "delta": "1"}},
            'params.weighting.binary.delta: "1" is not allowed; allowed: a number',
        ),
        ({"weighting": "binary=nan"}, "params.weighting.binary.delta: NaN is not allowed; allowed: a number"),
        (
            {"weighting": {"name": "logistic", "alpha": 0}},
            "params.weighting: alpha is 0; allowed: a finite number above 0",
        ),
        (
            {"reward_map": {"name": "xyz"}},
            'params.reward_map: {"name": "xyz"} is not allowed; '
            "allowed: an object with a name of raw, logistic, linear, threshold",
        ),
        ({"reward_map": {"name": "raw", "scale": 2}}, "params.reward_map.raw.scale: unknown; allowed: name"),
        (
            {"n_rule": "pandora=0.01/0.6"},
            "params.n_rule: delta is 0.6; allowed: a number above 0, and at most 0.5",
        ),
        (
            {"reward_map": {"name": "linear", "scale": 0}},
            "params.reward_map: scale is 0; allowed: a finite number above 0",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_error_names_the_field_and_lists_what_is_allowed(params: Mapping[str, Any], error: str) -> None:
    """One sentence, which a person can act on."""
    assert error_of(params).startswith(error)


# --- The preset ---------------------------------------------------------------------------------------------------

AUTHORS = {"acceptance_threshold": 10.0, "reward_floor": 0.1, "likelihood": "model"}


@pytest.mark.parametrize("method", ["gsi", "gsi-no-rejection", "rsd"])
def test_the_preset_brings_the_values_of_the_authors_code(method: str) -> None:
    """u on the scale of beta times the reward, a floor, and the bare model's likelihood."""
    for params in ({"method": method, "preset": "authors"}, {"method": f"{method}:authors"}):
        found = parsed(params)
        assert {name: getattr(found, name) for name in AUTHORS} == AUTHORS
        assert found.to_params().preset is Preset.AUTHORS
        assert found.to_params().stop.drops_low_step


def test_a_job_that_says_nothing_follows_the_paper() -> None:
    """Its u is on the reward's scale, it has no floor, and keeps the step that ends it."""
    found = parsed({})
    assert (found.preset, found.acceptance_threshold, found.reward_floor, found.likelihood) == (
        *("paper", 0.5, None, "sampling"),
    )
    assert not found.to_params().stop.drops_low_step


def test_what_a_job_says_wins_over_the_preset() -> None:
    """Also null, which turns the floor off, and also where it is the default of a job without the preset."""
    given = {"acceptance_threshold": 0.5, "reward_floor": None, "likelihood": "sampling"}
    found = parsed({"preset": "authors", **given})
    assert {name: getattr(found, name) for name in given} == given


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if "preset" not in method.parameters])
def test_a_method_that_the_authors_code_has_not_ignores_the_preset(method: str) -> None:
    """As it ignores every parameter that it does not read; as an option of the method it is refused."""
    found = parsed({"method": method, "preset": "authors"})
    assert (found.acceptance_threshold, found.reward_floor) == (0.5, None)
    assert found.to_params() == replace(parsed({"method": method}).to_params(), preset=Preset.AUTHORS)
    assert "is not allowed with" in error_of({"method": f"{method}:preset=authors"})


# --- JSON ---------------------------------------------------------------------------------------------------------

numbers = st.floats(1e-3, 1.0)
weightings: st.SearchStrategy[Weighting] = st.one_of(
    st.builds(Constant, numbers),
    st.builds(Binary, st.sampled_from([0.7, 0.5])),  # 0.7 is the default
    st.just(Clip()),
    st.builds(Logistic, numbers, numbers),
    st.builds(LikelihoodRatio, numbers),
    st.builds(Hybrid, numbers),
    st.builds(NormalisedHybrid, numbers, numbers),
    st.builds(Budget, numbers),
)


@given(
    st.sampled_from(list(METHODS)),
    weightings,
    st.sampled_from([None, *REWARD_MAPS]),
    st.integers(1, 256),
    st.sampled_from([{}, {"preset": "authors"}, {"preset": "authors", "acceptance_threshold": 0.5}]),
)
def test_a_payload_comes_back_from_json_as_it_was(
    method: str, weighting: Weighting, reward_map: str | None, n: int, preset: Mapping[str, Any]
) -> None:
    """Also without what nobody set, as the client pushes it."""
    name = next(name for name, kind in WEIGHTINGS.items() if isinstance(weighting, kind))
    written = {"name": name} | {field.name: getattr(weighting, field.name) for field in fields(weighting)}  # type: ignore[arg-type]
    params = {"method": method, "weighting": written, "reward_map": reward_map and {"name": reward_map}, "n": n}
    params |= preset
    payload = parse_payload({"prompt": "x", "params": params})
    for text in (payload.model_dump_json(), payload.model_dump_json(exclude_unset=True)):
        assert parse_payload(text) == payload
        assert parse_payload(text).params.to_params().weighting == weighting


# --- The schema (no validator is installed: its structure is read) ---------------------------------------------------


def definition(reference: Mapping[str, str]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = SCHEMA["$defs"][reference["$ref"].rpartition("/")[2]]
    return found


def choices(field: str) -> dict[str, Mapping[str, Any]]:
    """Return the objects that a field allows, by the name in them."""
    schema = SCHEMA["$defs"]["JobParams"]["properties"][field]
    union = next(part for part in schema.get("anyOf", [schema]) if "oneOf" in part)
    mapping = union["discriminator"]["mapping"]
    assert union["discriminator"]["propertyName"] == "name"
    assert sorted(mapping.values()) == sorted(part["$ref"] for part in union["oneOf"])
    return {name: definition({"$ref": reference}) for name, reference in mapping.items()}


def fits(schema: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Return whether an object has the fields that the schema names, of the types that it names."""
    types = {"string": str, "number": int | float}
    known = schema["properties"]
    return (
        schema["additionalProperties"] is False
        and set(schema["required"]) <= set(written) <= set(known)
        and all(isinstance(value, types[known[name]["type"]]) for name, value in written.items())
        and written["name"] == known["name"]["const"]
    )


@pytest.mark.parametrize(
    ("field", "registry"), [("weighting", WEIGHTINGS), ("reward_map", REWARD_MAPS), ("n_rule", N_RULES)]
)
def test_the_schema_has_every_choice_with_its_numbers(field: str, registry: Mapping[str, type[Any]]) -> None:
    """As the code has them, defaults included."""
    found = choices(field)
    assert set(found) == set(registry)
    for name, kind in registry.items():
        defaults = {f.name: f.default for f in fields(kind)}
        properties = {key: value for key, value in found[name]["properties"].items() if key != "name"}
        assert {key: value["default"] for key, value in properties.items()} == defaults
        assert found[name]["required"] == ["name"]


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("weighting", {"name": "binary"}),
        ("weighting", {"name": "binary", "delta": 0.5}),
        ("weighting", {"name": "logistic", "alpha": 10, "delta": 0.5}),
        ("weighting", {"name": "clip"}),
        ("n_rule", {"name": "beacon"}),
        ("n_rule", {"name": "pandora", "cost": 0.02, "delta": 0.1}),
        ("reward_map", {"name": "raw"}),
        ("reward_map", {"name": "linear", "center": -10, "scale": 20}),
        ("weighting", {"name": "binary", "dleta": 0.5}),
        ("weighting", {"name": "binary", "delta": "0.5"}),
        ("weighting", {"name": "clip", "delta": 0.5}),
        ("reward_map", {"name": "raw", "scale": 2}),
    ],
)
def test_what_the_schema_allows_is_what_the_code_takes(field: str, written: Mapping[str, Any]) -> None:
    """An editor that knows the schema and the coordinator agree."""
    is_allowed = fits(choices(field)[written["name"]], written)
    try:
        parsed({field: written})
    except InvalidRequestError:
        assert not is_allowed
    else:
        assert is_allowed


def test_the_schema_lists_the_methods_and_their_choices() -> None:
    """In the order of the code."""
    properties = SCHEMA["$defs"]["JobParams"]["properties"]
    for field, kind in (
        ("scope", Scope),
        ("aggregate", Aggregate),
        ("resample", Resample),
        ("role", Source),
    ):
        assert definition(properties[field])["enum"] == list(kind)
    by_name, short = properties["method"]["anyOf"]
    assert by_name["enum"] == list(METHODS)
    assert re.fullmatch(short["pattern"], "rsd:binary=0.7:n=4")
    assert not re.fullmatch(short["pattern"], "magic:n=4")
    assert set(properties) == set(JobParams.model_fields)
    assert JobPayload.model_json_schema()["$defs"]["JobParams"]["properties"] == properties


@pytest.mark.parametrize("field", [name for name in JobParams.model_fields if name != "weighting"])
@pytest.mark.parametrize("value", ["no", [2], {"a": 1}, -1.5, True])
def test_every_field_can_say_what_it_allows(field: str, value: Any) -> None:
    """Whatever is written there: it is taken, or refused with a sentence."""
    said = ""
    try:
        parse_payload({"prompt": "x", "params": {field: value}})
    except InvalidRequestError as error:
        said = str(error)
    assert said == "" or said.startswith(f"params.{field}")


def test_a_flag_is_true_or_false() -> None:
    """Nothing else stands for it."""
    assert error_of({"keep_candidates": [2]}) == ("params.keep_candidates: [2] is not allowed; allowed: true or false")
