"""A method in one word, as on a command line: ``name`` or ``name:option``, with any number of options.

    gsi   gsi:beta=8   soft-best-of-n:target   rsd:binary=0.7   rsd:logistic=10/0.7   best-of-n:minimum

An option is a role, a scope, an aggregate, a weighting with its numbers (``/`` between them), ``speculative``,
``authors``, the weights and the choice of particles, or any parameter of a job as NAME=VALUE.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from gsi.algorithm.candidates import Source
from gsi.algorithm.method import COMMON_PARAMETERS, Method
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Aggregate, ParticleChoice, ParticleWeights, Preset, Resample, Scope
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.errors import InvalidRequestError
from gsi.limits import MAX_SHORTHAND_CHARACTERS
from gsi.suggestions import list_names, suggest

ALIASES = {"u": "acceptance_threshold", "width": "beam_width", "expansion": "beam_expansion"}


def parse_method(spec: str, parameters: Collection[str]) -> dict[str, Any]:
    """Return the parameters that ``spec`` stands for. ``parameters`` are the names of all parameters of a job.

    Raises InvalidRequestError that names an option that is unknown, or not for this method, and lists what is allowed.
    """
    _check_length("method", spec)
    name, *options = spec.split(":")
    if name not in METHODS:
        raise InvalidRequestError(f'params.method: "{name}" is not allowed; allowed: {list_names(name, METHODS)}')
    method = METHODS[name]
    others = {p for other in METHODS.values() for p in other.parameters} - COMMON_PARAMETERS - set(method.parameters)
    usable = [p for p in parameters if p != "method" and p not in others]
    found: dict[str, Any] = {"method": name}
    for option in options:
        for parameter, value in _read_option(method, option, usable).items():
            if found.setdefault(parameter, value) != value:
                raise InvalidRequestError(f'params.method: "{spec}" says {parameter} twice; allowed: once')
    return found


def parse_choice(what: str, registry: Mapping[str, type[Any]], text: str) -> dict[str, Any]:
    """Return the object that ``name`` or ``name=value/value`` stands for; the values are in the class's order."""
    _check_length(what, text)
    name, equals, values = text.partition("=")
    if name not in registry:
        raise InvalidRequestError(f'params.{what}: "{name}" is not allowed; allowed: {list_names(name, registry)}')
    names = number_names(registry[name])
    given = values.split("/") if equals else []
    if len(given) > len(names):
        allowed = ", ".join(names) or "no number"
        raise InvalidRequestError(f"params.{what}: {text} has {len(given)} numbers; allowed: {allowed}")
    return {"name": name} | {field: _read_number(what, value, text) for field, value in zip(names, given, strict=False)}


def number_names(kind: type[Any]) -> list[str]:
    """Return the names of the numbers that a choice has, in order."""
    return [field.name for field in fields(kind)]


def _check_length(what: str, text: str) -> None:
    if len(text) > MAX_SHORTHAND_CHARACTERS:
        raise InvalidRequestError(
            f"params.{what}: shorthand of {len(text)} characters; allowed: at most {MAX_SHORTHAND_CHARACTERS}"
        )


def _find_words(method: Method) -> dict[str, dict[str, str]]:
    """Return the options that are one word, and the parameters that each stands for."""
    words: dict[str, dict[str, str]] = {
        **{role.value: {"role": role.value} for role in Source},
        **{scope.value: {"scope": scope.value} for scope in Scope},
        **{aggregate.value: {"aggregate": aggregate.value} for aggregate in Aggregate},
        Resample.SPECULATIVE.value: {"resample": Resample.SPECULATIVE.value},
        Preset.AUTHORS.value: {"preset": Preset.AUTHORS.value},
        **{weights.value: {"particle_weights": weights.value} for weights in ParticleWeights},
        **{choice.value: {"particle_choice": choice.value} for choice in ParticleChoice},
    }
    if "scope" in method.parameters:  # an aggregate makes the score of a response, not of a step
        words |= {word: {"scope": Scope.RESPONSES.value, **words[word]} for word in Aggregate}
    return {word: meant for word, meant in words.items() if meant.keys() <= set(method.parameters)}


def _read_option(method: Method, option: str, usable: Collection[str]) -> Mapping[str, Any]:
    name, equals, value = option.partition("=")
    name = ALIASES.get(name, name)
    weightings = list(WEIGHTINGS) if "weighting" in usable else []
    if name in weightings:
        return {"weighting": parse_choice("weighting", WEIGHTINGS, option)}
    if equals and name in usable:
        return {name: _read_json(value)}
    words = _find_words(method)
    if not equals and name in words:
        return words[name]
    allowed = ", ".join([*words, *weightings, f"NAME=VALUE with a parameter ({', '.join(usable)})"])
    allowed += suggest(name, usable if equals else [*words, *weightings])
    raise InvalidRequestError(f'params.method: option "{option}" is not allowed with {method.name}; allowed: {allowed}')


def _read_json(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, too many digits, or brackets nested too deeply
        return value


def _read_number(what: str, value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidRequestError(f'params.{what}: "{value}" in {text}; allowed: a number') from None
