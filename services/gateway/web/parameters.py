"""What the page knows of the methods: what a `Method` says of itself, and its parameters by the schema of a job."""

import json
from collections.abc import Mapping
from typing import Any

from gsi.algorithm.method import Method
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, Scope
from gsi.jobs.job_params import JobParams

SHARED = ("temperature", "max_steps", "max_tokens", "seed")  # which every method uses


def describe_methods() -> bytes:
    """Return JSON: ``methods`` (each with what forms and traces read of it) and ``parameters`` (name -> its field)."""
    properties: Mapping[str, Mapping[str, Any]] = JobParams.model_json_schema()["properties"]
    definitions: Mapping[str, Mapping[str, Any]] = JobParams.model_json_schema()["$defs"]
    methods = [_describe_method(method) for method in METHODS.values()]
    used = dict.fromkeys(name for method in METHODS.values() for name in (*method.parameters, *SHARED))
    parameters = {name: _describe_parameter(properties[name], definitions) for name in used}
    return json.dumps({"methods": methods, "parameters": parameters}, ensure_ascii=False).encode()


def _describe_method(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "summary": method.summary,
        "parameters": [*method.parameters, *SHARED],
        "can_reject": method.can_reject,
        "draws_tilted": method.draws_tilted,
        "search_scopes": [scope for scope in Scope if method.is_search(Params(scope=scope))],
    }


def _describe_parameter(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a parameter: its type, range or choices, and its default."""
    alternatives = [_resolve(each, definitions) for each in (schema, *schema.get("anyOf", ()))]
    kinds = [each for each in alternatives if each.get("type") not in {None, "null"}]
    simple = next((each for each in kinds if each["type"] in {"integer", "number", "boolean"} or "enum" in each), None)
    field = simple or {"type": "text"}
    found = {
        "type": "choice" if "enum" in field else field["type"],
        "choices": field.get("enum"),
        "least": field.get("minimum", field.get("exclusiveMinimum")),
        "most": field.get("maximum"),
        "default": _shorten(schema.get("default")),
        "description": schema.get("description", ""),
        "is_optional": any(each.get("type") == "null" for each in alternatives),
    }
    return {name: value for name, value in found.items() if value is not None}


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _shorten(value: Any) -> Any:
    """Return a choice with numbers in its short form: ``binary=0.7``."""
    if not isinstance(value, dict):
        return value
    numbers = "/".join(f"{number:g}" for name, number in value.items() if name != "name")
    return f"{value['name']}={numbers}" if numbers else value["name"]
