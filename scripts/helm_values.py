"""Write the tables of values in ``helm/README.md`` from the comments of ``helm/values.yaml``.

Usage: ``python scripts/helm_values.py [FOLDER]``; the folder is the repository's root unless named.

Every value has a comment ``# -- what it means`` above it, which may go on in further comment lines. A map with such a
comment is one row, its default as JSON, unless values below it have comments of their own. The lines above a map at the
top introduce its table. What stands between the markers in the README is replaced.

The conventions are those of helm-docs (https://github.com/norwoodj/helm-docs), which is published as a binary only.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
README = Path("helm") / "README.md"
VALUES = ROOT / "helm" / "values.yaml"
TABLES = re.compile(r"(?<=<!-- values -->\n).*?(?=<!-- end -->)", re.DOTALL)
SAME_AS = {"target": "draft", "prm": "draft"}  # one schema: their tables have what differs

Row = tuple[
    str, str, str
]  # the value's path, its default as JSON (empty for a map that is explained below), its meaning


def tables(text: str) -> str:
    """Return Markdown with a section for each map at the top of a values file, and one for the other values there."""
    lines = text.splitlines()
    top: yaml.MappingNode = yaml.compose(text, yaml.SafeLoader)
    general = [row for key, value in top.value if not _is_map(value) for row in rows(lines, key, value, "")]
    sections = {key.value: (key, value) for key, value in top.value if _is_map(value)}
    found = {name: list(rows(lines, key, value, "")) for name, (key, value) in sections.items()}
    parts = [_table(general)]
    for name, (key, _) in sections.items():
        introduction = comment(lines, key.start_mark.line)
        parts += [f"### {name}\n", f"{introduction}\n" if introduction else ""]
        if name in SAME_AS:
            parts += [f"The values of `{SAME_AS[name]}`; these have other defaults:\n"]
            parts += [_table(_differing(found[name], found[SAME_AS[name]]))]
        else:
            parts += [_table(found[name])]
    return "\n".join(part for part in parts if part)


def rows(lines: list[str], key: yaml.ScalarNode, value: yaml.Node, above: str) -> Iterator[Row]:
    """Yield a row for a value, or for each below it. Exits if a value has no comment."""
    path = f"{above}{key.value}"
    meaning = comment(lines, key.start_mark.line)
    is_explained = meaning.startswith("-- ")
    if _is_map(value) and not (is_explained and not _has_comments_below(lines, value)):
        if is_explained:
            yield path, "", meaning.removeprefix("-- ")
        for child_key, child in value.value:
            yield from rows(lines, child_key, child, f"{path}.")
    elif is_explained:
        default = json.dumps(yaml.SafeLoader("").construct_document(value), ensure_ascii=False)
        yield path, default, meaning.removeprefix("-- ")
    else:
        sys.exit(f"helm/values.yaml: {path} has no comment `# -- …` above it")


def comment(lines: list[str], line: int) -> str:
    """Return the comment right above a line, counted from 0, as one line without the signs."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])


def _is_map(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and bool(node.value)


def _has_comments_below(lines: list[str], value: yaml.MappingNode) -> bool:
    return not value.flow_style and any(comment(lines, key.start_mark.line) for key, _ in value.value)


def _differing(own: list[Row], others: list[Row]) -> list[Row]:
    defaults = {_below(path): default for path, default, _ in others}
    return [row for row in own if defaults.get(_below(row[0])) != row[1]]


def _below(path: str) -> str:
    return path.partition(".")[2]


def _table(found: list[Row]) -> str:
    written = [f"| `{path}` | {_code(default)} | {_escaped(meaning)} |\n" for path, default, meaning in found]
    return "".join(["| value | default | meaning |\n|---|---|---|\n", *written])


def _code(default: str) -> str:
    return f"`{_escaped(default)}`" if default else ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def write(root: Path) -> None:
    """Write the README with its tables anew; what stands around them stays."""
    text = (ROOT / README).read_text(encoding="utf-8")
    made = tables(VALUES.read_text(encoding="utf-8"))
    (root / README).parent.mkdir(parents=True, exist_ok=True)
    (root / README).write_text(TABLES.sub(lambda _: f"\n{made}\n", text), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
