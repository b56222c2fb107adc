"""A method in one word, as on a command line: ``name`` or ``name:option``, with as many options as needed.

    gsi   gsi:beta=8   soft-best-of-n:target   rsd:binary=0.7   rsd:logistic=10/0.7   best-of-n:minimum

An option is a role, a scope, an aggregate, a weighting with its numbers (``/`` between them), ``speculative``, or any
parameter of a job as NAME=VALUE.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Aggregate, Method, Resample, Scope
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.errors import InvalidRequestError

# Methods that look at no reward: no PRM is asked.
REWARDLESS = frozenset({Method.MAJORITY_VOTE, Method.DRAFT, Method.TARGET, Method.SPECULATIVE_DECODING})
ALIASES = {"u": "acceptance_threshold", "width": "beam_width", "expansion": "beam_expansion"}


def parse_method(spec: str, parameters: Collection[str]) -> dict[str, Any]:
    """Return the parameters that ``spec`` stands for. ``parameters`` are the names of all that a job has.

    Raises InvalidRequestError that names what is unknown and lists what is allowed.
    """
    name, *options = spec.split(":")
    if name not in set(Method):
        raise InvalidRequestError(f'params.method: "{name}" is not allowed; allowed: {", ".join(Method)}')
    found: dict[str, Any] = {"method": name}
    for option in options:
        for parameter, value in _option(option, parameters).items():
            if parameter in found:
                raise InvalidRequestError(f'params.method: "{spec}" says {parameter} twice; allowed: once')
            found[parameter] = value
    return found


def parse_weighting(text: str) -> dict[str, Any]:
    """Return the object that ``name`` or ``name=value/value`` stands for; the values are in the class's order."""
    name, equals, values = text.partition("=")
    if name not in WEIGHTINGS:
        raise InvalidRequestError(f'params.weighting: "{name}" is not allowed; allowed: {", ".join(WEIGHTINGS)}')
    names = number_names(WEIGHTINGS[name])
    given = values.split("/") if equals else []
    if len(given) > len(names):
        allowed = ", ".join(names) or "no number"
        raise InvalidRequestError(f"params.weighting: {text} has {len(given)} numbers; allowed: {allowed}")
    return {"name": name} | {field: _number(value, text) for field, value in zip(names, given, strict=False)}


def number_names(kind: type[Any]) -> list[str]:
    """Return the names of the numbers that a choice has, in order."""
    return [field.name for field in fields(kind)]


def _option(option: str, parameters: Collection[str]) -> Mapping[str, Any]:
    name, equals, value = option.partition("=")
    name = ALIASES.get(name, name)
    if name in WEIGHTINGS:
        return {"weighting": parse_weighting(option)}
    if equals and name in parameters and name != "method":
        return {name: _json(value)}
    words: dict[str, Mapping[str, Any]] = {
        **{role: {"role": role} for role in Source},
        **{scope: {"scope": scope} for scope in Scope},
        **{aggregate: {"scope": Scope.RESPONSES, "aggregate": aggregate} for aggregate in Aggregate},
        Resample.SPECULATIVE: {"resample": Resample.SPECULATIVE},
    }
    if not equals and name in words:
        return {parameter: str(word) for parameter, word in words[name].items()}
    raise InvalidRequestError(
        f'params.method: option "{option}" is not allowed; allowed: {", ".join([*words, *WEIGHTINGS])}, '
        f"or a parameter as NAME=VALUE ({', '.join(p for p in parameters if p != 'method')})"
    )


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidRequestError(f'params.weighting: "{value}" in {text}; allowed: a number') from None
