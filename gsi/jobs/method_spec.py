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
SEARCHING = frozenset({Method.BEST_OF_N, Method.MAJORITY_VOTE, Method.BEAM_SEARCH})

# Which methods look at a parameter that is not for all of them.
USED_BY: Mapping[str, frozenset[Method]] = {
    "role": SEARCHING | {Method.SOFT_BEST_OF_N},
    "scope": frozenset({Method.BEST_OF_N}),
    "aggregate": frozenset({Method.BEST_OF_N, Method.BEAM_SEARCH}),
    "weighting": frozenset({Method.RSD}),
    "resample": frozenset({Method.GSI, Method.RSD}),
    "beam_width": frozenset({Method.BEAM_SEARCH}),
    "beam_expansion": frozenset({Method.BEAM_SEARCH}),
    "acceptance_threshold": frozenset({Method.GSI}),
}
ALIASES = {"u": "acceptance_threshold", "width": "beam_width", "expansion": "beam_expansion"}


def parse_method(spec: str, parameters: Collection[str]) -> dict[str, Any]:
    """Return the parameters that ``spec`` stands for. ``parameters`` are the names of all that a job has.

    Raises InvalidRequestError that names what is unknown, or not for this method, and lists what is allowed.
    """
    name, *options = spec.split(":")
    if name not in set(Method):
        raise InvalidRequestError(f'params.method: "{name}" is not allowed; allowed: {", ".join(Method)}')
    usable = [p for p in parameters if p != "method" and name in USED_BY.get(p, set(Method))]
    found: dict[str, Any] = {"method": name}
    for option in options:
        for parameter, value in _option(Method(name), option, usable).items():
            if found.setdefault(parameter, value) != value:
                raise InvalidRequestError(f'params.method: "{spec}" says {parameter} twice; allowed: once')
    return found


def parse_choice(what: str, registry: Mapping[str, type[Any]], text: str) -> dict[str, Any]:
    """Return the object that ``name`` or ``name=value/value`` stands for; the values are in the class's order."""
    name, equals, values = text.partition("=")
    if name not in registry:
        raise InvalidRequestError(f'params.{what}: "{name}" is not allowed; allowed: {", ".join(registry)}')
    names = number_names(registry[name])
    given = values.split("/") if equals else []
    if len(given) > len(names):
        allowed = ", ".join(names) or "no number"
        raise InvalidRequestError(f"params.{what}: {text} has {len(given)} numbers; allowed: {allowed}")
    return {"name": name} | {field: _number(what, value, text) for field, value in zip(names, given, strict=False)}


def number_names(kind: type[Any]) -> list[str]:
    """Return the names of the numbers that a choice has, in order."""
    return [field.name for field in fields(kind)]


def _words(method: Method) -> dict[str, dict[str, str]]:
    """Return the options that are one word, with what each stands for."""
    words: dict[str, dict[str, str]] = {
        **{role.value: {"role": role.value} for role in Source},
        **{scope.value: {"scope": scope.value} for scope in Scope},
        **{aggregate.value: {"aggregate": aggregate.value} for aggregate in Aggregate},
        Resample.SPECULATIVE.value: {"resample": Resample.SPECULATIVE.value},
    }
    if method is Method.BEST_OF_N:  # only of responses is there a score to make
        words |= {word: {"scope": Scope.RESPONSES.value, **words[word]} for word in Aggregate}
    return {word: meant for word, meant in words.items() if all(method in USED_BY[parameter] for parameter in meant)}


def _option(method: Method, option: str, usable: Collection[str]) -> Mapping[str, Any]:
    name, equals, value = option.partition("=")
    name = ALIASES.get(name, name)
    weightings = list(WEIGHTINGS) if "weighting" in usable else []
    if name in weightings:
        return {"weighting": parse_choice("weighting", WEIGHTINGS, option)}
    if equals and name in usable:
        return {name: _json(value)}
    words = _words(method)
    if not equals and name in words:
        return words[name]
    allowed = ", ".join([*words, *weightings, f"NAME=VALUE with a parameter ({', '.join(usable)})"])
    raise InvalidRequestError(f'params.method: option "{option}" is not allowed with {method}; allowed: {allowed}')


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _number(what: str, value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidRequestError(f'params.{what}: "{value}" in {text}; allowed: a number') from None
