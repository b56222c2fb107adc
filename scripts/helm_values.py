"""Write the tables of values in ``helm/README.md`` from the comments of ``helm/values.yaml``.

Usage: ``python scripts/helm_values.py [FOLDER]``; the folder is the repository's root unless named.

Every value has a comment ``# -- MEANING`` above it, which may continue in further comment lines. A map with such a
comment is one row, with its default as JSON. The comment above a map at the top level introduces the map's table. The
script replaces the text between the README's markers and nothing else.

The conventions are those of helm-docs (https://github.com/norwoodj/helm-docs), which is published as a binary only.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
README = Path("helm") / "README.md"
VALUES = ROOT / "helm" / "values.yaml"
TABLES = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- end -->)", re.DOTALL)
BASE = "draft"  # the section that the others refer to, instead of repeating its values


class Value(NamedTuple):
    """One value: its path below the section, its default as JSON, and its meaning."""

    path: str
    default: str
    meaning: str


def format_tables(text: str) -> str:
    """Return Markdown with a section for each map at the top of a values file, after the other values at the top."""
    lines = text.splitlines()
    top: yaml.MappingNode = yaml.compose(text, yaml.SafeLoader)
    general = [value for key, node in top.value if not _is_map(node) for value in list_values(lines, key, node)]
    sections = {key.value: list(list_values(lines, key, node)) for key, node in top.value if _is_map(node)}
    introductions = {key.value: read_comment(lines, key.start_mark.line) for key, _ in top.value}
    parts = [_format_table("", general)]
    for name, values in sections.items():
        parts += [f"### {name}\n", f"{introductions[name]}\n" if introductions[name] else ""]
        parts += [_format_table(f"{name}.", values)] if name == BASE else _refer_to_base(name, values, sections[BASE])
    return "\n".join(part for part in parts if part)


def list_values(lines: Sequence[str], key: yaml.ScalarNode, node: yaml.Node, above: str = "") -> Iterator[Value]:
    """Yield the value of a key, or the values below it. Exits if a value has no comment."""
    meaning = read_comment(lines, key.start_mark.line)
    if meaning.startswith("-- "):
        default = yaml.SafeLoader("").construct_document(node)
        as_json = json.dumps(default, ensure_ascii=False, separators=(",", ":"))
        yield Value(above + key.value, as_json, meaning.removeprefix("-- "))
    elif _is_map(node):
        is_top = key.start_mark.column == 0
        for child_key, child in node.value:
            yield from list_values(lines, child_key, child, "" if is_top else f"{above}{key.value}.")
    else:
        sys.exit(f"helm/values.yaml: {above}{key.value} has no comment `# -- …` above it")


def read_comment(lines: Sequence[str], line: int) -> str:
    """Return the comment right above a line (counted from 0) as one line without the signs."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])


def _is_map(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and bool(node.value)


def _refer_to_base(name: str, values: Sequence[Value], base: Sequence[Value]) -> list[str]:
    """Return a section that names the values which the base explains, and explains the others."""
    shared = [value for value in values if any(_is_same(value, other) for other in base)]
    own = [value for value in values if value not in shared]
    if [value.path for value in values] == [value.path for value in base]:
        defaults = ", ".join(f"`{name}.{value.path}` is `{value.default}`" for value in own)
        return [f"The values of `{BASE}`, but {defaults}.\n"]
    names = ", ".join(f"`{value.path}`" for value in shared)
    return [f"As in `{BASE}`: {names}.\n" if shared else "", _format_table(f"{name}.", own)]


def _is_same(value: Value, other: Value) -> bool:
    """Tell whether two values have the same end of the path, default and meaning."""
    return f".{value.path}".endswith(f".{other.path}") and value[1:] == other[1:]


def _format_table(above: str, values: Sequence[Value]) -> str:
    """Return a table with one row for the values that have the same default and meaning."""
    rows: dict[tuple[str, str], list[str]] = {}
    for path, default, meaning in values:
        rows.setdefault((default, meaning), []).append(f"`{above}{path}`")
    written = [
        f"| {', '.join(paths)} | `{_escape(default)}` | {_escape(meaning)} |\n"
        for (default, meaning), paths in rows.items()
    ]
    return "".join(["| value | default | meaning |\n|---|---|---|\n", *written])


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def write(root: Path) -> None:
    """Write the README with new tables; the text around them stays."""
    text = (ROOT / README).read_text(encoding="utf-8")
    tables = format_tables(VALUES.read_text(encoding="utf-8"))
    (root / README).parent.mkdir(parents=True, exist_ok=True)
    (root / README).write_text(TABLES.sub(lambda _: f"\n{tables}\n", text), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
