"""Errors of a payload in words: the field, its value, and what is allowed, which the schema says."""

import difflib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gsi.algorithm.methods import METHODS
from gsi.errors import InvalidRequestError
from gsi.jobs.job_params import JobParams
from gsi.jobs.method_spec import number_names
from gsi.jobs.param_choices import CHOICES
from gsi.jobs.payload import ChatMessage, JobPayload
from gsi.limits import MAX_ERROR_BYTES, MAX_ERROR_FIELDS, SHOWN_CHARACTERS
from gsi.suggestions import suggest

_ROOM_FOR_MORE = 30  # bytes of "; … and 1000 more"


def describe_errors(errors: Sequence[ErrorDetails]) -> str:
    """Return a sentence for each of the first errors, and the number of the others: at most 2 KB, ten fields."""
    sentences: list[str] = []
    num_bytes = 0
    for error in errors[:MAX_ERROR_FIELDS]:
        sentence = describe_error(error)
        num_bytes += len(f"{sentence}; ".encode())
        if sentences and num_bytes > MAX_ERROR_BYTES - _ROOM_FOR_MORE:
            break
        sentences.append(sentence)
    more = len(errors) - len(sentences)
    return "; ".join(sentences + ([f"… and {more} more"] if more else []))


def describe_error(error: ErrorDetails) -> str:
    """Return a sentence: which field is wrong, its value, and what is allowed."""
    path = [_shorten(str(part)) for part in error["loc"]] or ["job"]
    field = ".".join(path)
    match error["type"]:
        case "missing":
            return f"{field}: missing; allowed: {describe_allowed(path)}"
        case "extra_forbidden":
            return f"{field}: unknown{_suggest(path)}"
        case "value_error" if isinstance(error["ctx"]["error"], InvalidRequestError):
            return str(error["ctx"]["error"])
        case "value_error":  # of our own validators: the reason is a phrase
            return f"{field}: {_show(error['input'])} is {error['ctx']['error']}; allowed: {describe_allowed(path)}"
        case _:
            meant = suggest(str(error["input"]), _names_of(path))
            return f"{field}: {_show(error['input'])} is not allowed; allowed: {describe_allowed(path)}{meant}"


def _names_of(path: list[str]) -> Sequence[str]:
    """Return the names that a field allows; none if it allows other values."""
    if path == ["params", "method"]:
        return list(METHODS)
    if path[0] == "params" and len(path) > 1 and path[1] in CHOICES:
        return list(CHOICES[path[1]])
    schema = _schema_of(JobParams if path[0] == "params" else JobPayload)
    field = schema["properties"].get(path[-1], {})
    alternatives = [_resolve(part, schema) for part in field.get("anyOf", [field])]
    return [str(name) for each in alternatives for name in each.get("enum", [])]


def _show(value: Any) -> str:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:  # of megabytes, write the beginning alone
        return f"{json.dumps(value[:SHOWN_CHARACTERS], ensure_ascii=False)[:-1]}… ({len(value)} characters)"
    return _shorten(json.dumps(value, ensure_ascii=False, default=str))


def _shorten(shown: str) -> str:
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}… ({len(shown)} characters)"


def _suggest(path: list[str]) -> str:
    if path[0] == "params" and path[1] in CHOICES:
        return f"; allowed: {', '.join(['name', *number_names(CHOICES[path[1]][path[2]])])}"
    model = ChatMessage if path[0] == "messages" else JobParams if path[0] == "params" and len(path) > 1 else JobPayload
    close = difflib.get_close_matches(path[-1], model.model_fields, n=1)
    hint = "acceptance_threshold" if path[-1] == "u" else (close[0] if close else None)
    return f"; did you mean {hint}?" if hint else f"; allowed: {', '.join(model.model_fields)}"


def describe_allowed(path: list[str]) -> str:
    """Return what a field allows, in words, read from the schema: one source for check, error and docs."""
    if path == ["job"]:
        return 'an object like {"v":1,"prompt":"…"}'
    if path == ["params"]:
        return "an object of parameters"
    if path == ["params", "method"]:
        return ", ".join(METHODS)
    if path[0] == "params" and path[1] in CHOICES:
        return "a number" if len(path) > 2 else f"an object with a name of {', '.join(CHOICES[path[1]])}"
    if path[0] == "messages" and len(path) == 2:
        return f"an object with {' and '.join(ChatMessage.model_fields)}"
    model, name = _find_field(path)
    schema = _schema_of(model)
    field = schema["properties"].get(name, {})
    if "items" in field and len(path) > 2:  # a list's element is at fault
        field = field["items"]
    alternatives = [_resolve(part, schema) for part in field.get("anyOf", [field])]
    return " or ".join(_describe_schema(alternative) for alternative in alternatives)


def _find_field(path: list[str]) -> tuple[type[BaseModel], str]:
    """Return the model that has the field at a path, and the field's name in it."""
    if path[0] == "messages" and len(path) > 2:
        return ChatMessage, path[2]
    return (JobParams, path[1]) if path[0] == "params" else (JobPayload, path[0])


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON Schema, built once: that takes some ten milliseconds."""
    return model.model_json_schema()


def _resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref", "")
    resolved: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else part
    return resolved


def _describe_schema(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "null": "null",
        "boolean": "true or false",
        "array": f"a list with {schema.get('minItems', 0)} to {schema.get('maxItems')} elements",
    }[schema["type"]]
    if "minLength" in schema or "maxLength" in schema:
        return f"{kind} of {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    if "pattern" in schema:
        return f"{kind} that matches {schema['pattern']}"
    if "exclusiveMinimum" in schema:
        return f"{kind} above {_format_number(schema['exclusiveMinimum'])}, at most {_format_number(schema['maximum'])}"
    if "maximum" in schema:
        return f"{kind} from {_format_number(schema['minimum'])} to {_format_number(schema['maximum'])}"
    return kind


def _format_number(value: float) -> str:
    return format(Decimal(repr(value)).normalize(), "f")  # as a person writes it: no exponent, no .0
