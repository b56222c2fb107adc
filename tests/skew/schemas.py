"""Whether one JSON Schema accepts all that another allows. It knows the words that pydantic writes, and refuses others.

Payloads are written by older clients and read by newer coordinators; steps and results are written by newer
coordinators and read by older clients. Either way what is read must accept what is written.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
ANNOTATIONS = ("$schema", "$defs", "title", "description", "default", "discriminator", "examples", "format")
COMPARED = (
    *("type", "const", "enum", "pattern", "properties", "required", "additionalProperties", "items", "prefixItems"),
    *("anyOf", "oneOf", "$ref"),
)
KNOWN_WORDS = {*ANNOTATIONS, *COMPARED, *UPPER, *LOWER}


def find_gaps(reader: Schema, written: Schema) -> list[str]:
    """Return what ``written`` allows and ``reader`` refuses, a line for each place; none if it accepts all."""
    return list(_compare(reader, written, reader, written, "$"))


def find_changed_defaults(before: Schema, after: Schema) -> list[str]:
    """Return the names of properties of the root and of ``JobParams`` that mean something else when left out."""
    changed = []
    for name, old, new in (
        ("", before, after),
        ("params.", before["$defs"]["JobParams"], after["$defs"]["JobParams"]),
    ):
        for field in old["properties"].keys() & new["properties"].keys():
            was, becomes = old["properties"][field].get("default"), new["properties"][field].get("default")
            if was != becomes and f"{name}{field}" != "params":
                changed.append(f"{name}{field}: {was} -> {becomes}")
    return sorted(changed)


def _compare(reader: Schema, written: Schema, of_reader: Schema, of_written: Schema, path: str) -> Iterator[str]:
    accepted = list(_alternatives(reader, of_reader))
    for each in _alternatives(written, of_written):
        found = [
            (list(_compare_one(one, each, of_reader, of_written, path)), one.get("type") != each.get("type"), number)
            for number, one in enumerate(sorted(accepted, key=lambda one: _values(one) is not None))
        ]
        yield from min(found, key=lambda gaps: (bool(gaps[0]), gaps[1], len(gaps[0]), gaps[2]))[0]


def _alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    """Yield what a schema allows, one by one, without references."""
    if unknown := schema.keys() - KNOWN_WORDS:
        raise ValueError(f"a schema says {sorted(unknown)}, which this check does not know")
    if "$ref" in schema:
        yield from _alternatives(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    elif "properties" not in schema and (parts := schema.get("anyOf") or schema.get("oneOf")):
        for part in parts:
            yield from _alternatives(part, root)
    else:
        yield schema


def _compare_one(reader: Schema, written: Schema, of_reader: Schema, of_written: Schema, path: str) -> Iterator[str]:
    allowed, values = _values(reader), _values(written)
    if allowed is not None:
        if values is None or not set(values) <= set(allowed):
            yield f"{path}: {written.get('type') if values is None else sorted(set(values) - set(allowed), key=str)}"
        return
    if values is not None:
        if not all(_fits(value, reader) for value in values):
            yield f"{path}: {values}"
        return
    if reader.get("type") not in {None, written.get("type")} and (reader.get("type"), written.get("type")) != (
        "number",
        "integer",
    ):
        yield f"{path}: {written.get('type')}, not {reader['type']}"
        return
    yield from _compare_limits(reader, written, path)
    yield from _compare_parts(reader, written, of_reader, of_written, path)


def _compare_limits(reader: Schema, written: Schema, path: str) -> Iterator[str]:
    for name in (*UPPER, *LOWER):
        limit, bound = reader.get(name), written.get(name)
        if limit is not None and (bound is None or (bound > limit if name in UPPER else bound < limit)):
            yield f"{path}: {name} {bound}, not {limit}"
    if reader.get("pattern") not in {None, written.get("pattern")}:
        yield f"{path}: pattern {written.get('pattern')}"


def _compare_parts(reader: Schema, written: Schema, of_reader: Schema, of_written: Schema, path: str) -> Iterator[str]:
    known = reader.get("properties", {})
    for name, part in written.get("properties", {}).items():
        if name in known:
            yield from _compare(known[name], part, of_reader, of_written, f"{path}.{name}")
        elif reader.get("additionalProperties") is False:
            yield f"{path}.{name}: unknown"
    for name in reader.get("required", ()):
        if name not in written.get("required", ()):
            yield f"{path}.{name}: may be missing"
    if isinstance(reader.get("items"), Mapping) and isinstance(written.get("items"), Mapping):
        yield from _compare(reader["items"], written["items"], of_reader, of_written, f"{path}[]")


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _fits(value: Any, schema: Schema) -> bool:
    if schema.get("type") != {str: "string", bool: "boolean", int: "integer", float: "number"}[type(value)]:
        return False
    return "pattern" not in schema or re.search(schema["pattern"], value) is not None
