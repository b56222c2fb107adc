"""A method in one word: the grammar, its conflicts, and errors that list what is allowed."""

from typing import Any

import pytest

from gsi.algorithm.methods import METHODS
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.errors import InvalidRequestError
from gsi.jobs.job_params import JobParams
from gsi.jobs.method_spec import ALIASES, parse_choice, parse_method

PARAMETERS = list(JobParams.model_fields)
OF_RESPONSES = ("steps", "responses", "last", "minimum", "product")


@pytest.mark.parametrize("method", METHODS)
def test_a_name_alone_is_the_method(method: str) -> None:
    """Everything else stays at its default."""
    assert parse_method(method, PARAMETERS) == {"method": method}


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        ("gsi:beta=8", {"beta": 8}),
        ("gsi:u=0.3", {"acceptance_threshold": 0.3}),
        ("gsi:beta=8:n=4:seed=1", {"beta": 8, "n": 4, "seed": 1}),
        ("gsi:reward_floor=null", {"reward_floor": None}),
        ("gsi:keep_candidates=true", {"keep_candidates": True}),
        ("gsi:likelihood=model", {"likelihood": "model"}),
        ("soft-best-of-n:target", {"role": "target"}),
        ("best-of-n:steps", {"scope": "steps"}),
        ("best-of-n:responses", {"scope": "responses"}),
        ("best-of-n:minimum", {"scope": "responses", "aggregate": "minimum"}),
        ("best-of-n:target:product", {"role": "target", "scope": "responses", "aggregate": "product"}),
        ("beam-search:width=8:expansion=2", {"beam_width": 8, "beam_expansion": 2}),
        ("dvts:width=8:expansion=2", {"beam_width": 8, "beam_expansion": 2}),
        ("particle-filter:tilted:sample", {"particle_weights": "tilted", "particle_choice": "sample"}),
        ("particle-filter:resample_below=0.5", {"resample_below": 0.5}),
        ("specs:switch_threshold=0.6", {"switch_threshold": 0.6}),
        ("gsi:n_rule=threshold=0.9", {"n_rule": "threshold=0.9"}),
        ("confidence-vote:vote_percentile=90", {"vote_percentile": 90}),
        ("speculative-rejection:rejected_share=0.25", {"rejected_share": 0.25}),
        ("rsd:binary=0.7", {"weighting": {"name": "binary", "delta": 0.7}}),
        ("rsd:binary=-1e-3", {"weighting": {"name": "binary", "delta": -0.001}}),
        ("rsd:logistic=10/0.7", {"weighting": {"name": "logistic", "alpha": 10.0, "delta": 0.7}}),
        ("rsd:logistic=5", {"weighting": {"name": "logistic", "alpha": 5.0}}),
        ("rsd:clip", {"weighting": {"name": "clip"}}),
        ("rsd:weighting=clip", {"weighting": "clip"}),
        ("gsi:authors", {"preset": "authors"}),
        ("rsd:binary:speculative", {"weighting": {"name": "binary"}, "resample": "speculative"}),
    ],
)
def test_options_stand_for_parameters(spec: str, parameters: dict[str, Any]) -> None:
    """In any order, as many as needed."""
    name, *options = spec.split(":")
    assert parse_method(spec, PARAMETERS) == {"method": name} | parameters
    assert parse_method(":".join([name, *reversed(options)]), PARAMETERS) == {"method": name} | parameters


def test_aliases_are_short_for_parameters_that_exist() -> None:
    """A parameter that is renamed takes its alias along."""
    assert set(ALIASES.values()) <= set(PARAMETERS)
    assert not set(ALIASES) & set(PARAMETERS)


@pytest.mark.parametrize("spec", ["", "xyz", "GSI", ":gsi", "xyz:target"])
def test_an_unknown_method_is_answered_with_those_there_are(spec: str) -> None:
    """Every one of them."""
    with pytest.raises(InvalidRequestError) as error:
        parse_method(spec, PARAMETERS)
    assert str(error.value).partition("; did you mean ")[0] == (
        f'params.method: "{spec.partition(":")[0]}" is not allowed; allowed: {", ".join(METHODS)}'
    )


@pytest.mark.parametrize("option", ["", "xyz", "xyz=1", "n", "width", "method=rsd", "prm", "target=1", "system=x"])
def test_an_unknown_option_is_answered_with_those_there_are(option: str) -> None:
    """Words, weightings and the names of parameters; the method cannot be said inside itself."""
    with pytest.raises(InvalidRequestError) as error:
        parse_method(f"gsi:{option}", PARAMETERS)
    said, allowed = str(error.value).partition("; did you mean ")[0].split("; allowed: ")
    assert said == f'params.method: option "{option}" is not allowed with gsi'
    words, names = allowed.split(", NAME=VALUE with a parameter (")
    assert words == "steps, responses, last, minimum, product, speculative, authors"
    others = {name for method in METHODS.values() for name in method.parameters} - set(METHODS["gsi"].parameters)
    assert {"role", "weighting", "beam_width", "judge_prompt", "switch_threshold", "resample_below"} <= others
    assert names.rstrip(")").split(", ") == [name for name in PARAMETERS if name not in {"method", *others}]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gsi", [*OF_RESPONSES, "speculative", "authors"]),
        ("gsi-no-rejection", [*OF_RESPONSES, "authors"]),
        ("rsd", ["speculative", "authors", *WEIGHTINGS]),
        ("arbitrage", ["speculative"]),
        ("soft-best-of-n", ["draft", "target", *OF_RESPONSES]),
        ("best-of-n", ["draft", "target", *OF_RESPONSES]),
        ("majority-vote", ["draft", "target"]),
        ("beam-search", ["draft", "target", "last", "minimum", "product"]),
        ("spec-reason", ["speculative", "score", "verdict", "likeliest", "mean"]),
        ("conf-spec", ["speculative", "score", "verdict", "likeliest", "mean"]),
        ("dvts", ["draft", "target", "last", "minimum", "product"]),
        ("particle-filter", ["draft", "target", "reward", "tilted", "highest", "sample"]),
        ("specs", []),
        ("target", []),
        ("confidence-vote", ["draft", "target"]),
        ("speculative-rejection", ["draft", "target", "last", "minimum", "product"]),
    ],
)
def test_a_method_takes_the_options_that_it_looks_at(spec: str, words: list[str]) -> None:
    """And refuses the others: who writes ``gsi:target`` means something that would not happen."""
    every = {
        "draft",
        "target",
        "steps",
        "responses",
        "last",
        "minimum",
        "product",
        "speculative",
        "authors",
        "score",
        "verdict",
        "likeliest",
        "mean",
        "reward",
        "tilted",
        "highest",
        "sample",
        *WEIGHTINGS,
    }
    for word in words:
        assert parse_method(f"{spec}:{word}", PARAMETERS)["method"] == spec
    for word in every - set(words):
        with pytest.raises(InvalidRequestError, match=f"is not allowed with {spec}; allowed: "):
            parse_method(f"{spec}:{word}", PARAMETERS)


@pytest.mark.parametrize(
    ("spec", "parameter"),
    [
        ("gsi:n=4:n=5", "n"),
        ("gsi:u=0.3:acceptance_threshold=0.4", "acceptance_threshold"),
        ("soft-best-of-n:draft:target", "role"),
        ("rsd:binary:clip", "weighting"),
        ("rsd:binary=0.5:weighting=clip", "weighting"),
        ("best-of-n:steps:minimum", "scope"),
    ],
)
def test_what_is_said_twice_is_refused(spec: str, parameter: str) -> None:
    """Rather than that the last one wins."""
    with pytest.raises(InvalidRequestError, match=f'^params.method: "{spec}" says {parameter} twice; allowed: once$'):
        parse_method(spec, PARAMETERS)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "xyz=1",
            '"xyz" is not allowed; allowed: constant, binary, clip, sigmoidal, logistic, likelihood-ratio, hybrid, '
            "normalised-hybrid, budget",
        ),
        ("binary=0.7/2", "binary=0.7/2 has 2 numbers; allowed: delta"),
        ("logistic=1/2/3", "logistic=1/2/3 has 3 numbers; allowed: alpha, delta"),
        ("clip=1", "clip=1 has 1 numbers; allowed: no number"),
        ("binary=high", '"high" in binary=high; allowed: a number'),
        ("binary=", '"" in binary=; allowed: a number'),
        ("logistic=10/", '"" in logistic=10/; allowed: a number'),
    ],
)
def test_a_weighting_that_cannot_be_read_is_answered_with_what_can(text: str, error: str) -> None:
    """Names, or the numbers that this one has."""
    with pytest.raises(InvalidRequestError) as raised:
        parse_choice("weighting", WEIGHTINGS, text)
    assert str(raised.value) == f"params.weighting: {error}"
