"""Print how large the code is and how it is divided: ``python scripts/code_figures.py [FOLDER]``.

The folder is a checkout; without it, this repository. Code is ``gsi`` and ``services``, without the generated stubs.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Source(NamedTuple):
    path: Path  # in the checkout
    text: str
    tree: ast.Module


def read_sources(root: Path, packages: Iterable[str] = ("gsi", "services"), skip: str = "v1") -> list[Source]:
    paths = sorted(path for package in packages for path in (root / package).rglob("*.py") if skip not in path.parts)
    return [Source(path.relative_to(root), path.read_text(), ast.parse(path.read_text())) for path in paths]


def count_lines(sources: list[Source]) -> int:
    """Count the lines that are neither empty nor a comment; a docstring counts."""
    lines = (line.strip() for source in sources for line in source.text.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def function_lengths(sources: list[Source]) -> tuple[float, int, int]:
    """Return median, 90th percentile and maximum of the lines from ``def`` to the function's end."""
    found = [node for source in sources for node in ast.walk(source.tree) if isinstance(node, FUNCTION)]
    lengths = sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in found)
    return median(lengths), lengths[len(lengths) * 9 // 10], lengths[-1]


def imports_of_files(sources: list[Source]) -> dict[str, set[str]]:
    """Return which files import which; an import inside a function counts."""
    trees = {".".join(source.path.with_suffix("").parts): source.tree for source in sources}
    modules = {name.removesuffix(".__init__"): set(_imported(tree)) for name, tree in trees.items()}
    return {module: (imported & modules.keys()) - {module} for module, imported in modules.items()}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))


def imports_of_folders(files: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return which folders import which; a folder and the folders inside it may import each other."""
    packages = {name.rpartition(".")[0] for name in files}
    folders = {name: name if name in packages else name.rpartition(".")[0] for name in files}
    pairs = [(folders[name], folders[other]) for name, imported in files.items() for other in imported]
    apart = [(own, other) for own, other in pairs if not (own.startswith(other) or other.startswith(own))]
    return {folder: {other for own, other in apart if own == folder} for folder in folders.values()}


def count_circles(imports: dict[str, set[str]]) -> int:
    """Count the groups of two or more nodes that import each other, directly or through others."""
    reached = {node: set(imported) for node, imported in imports.items()}
    for middle, beyond in reached.items():  # Warshall's transitive closure
        for nodes in reached.values():
            nodes.update(beyond if middle in nodes else ())
    groups = {frozenset(other for other in reached[node] if node in reached[other]) for node in reached}
    return sum(len(group) > 1 for group in groups)


def count_shared_names(sources: list[Source]) -> int:
    """Count the public functions, classes and variables that more than one module defines at its top level."""
    homes = Counter(name for source in sources for name in set(_defined(source.tree)))
    return sum(count > 1 for name, count in homes.items() if not name.startswith("_"))


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def private_helpers(sources: list[Source]) -> tuple[int, int]:
    """Count the ``_functions`` and ``_methods`` whose name stands twice in their file (definition, use), and all."""
    nodes = [(node, source.text) for source in sources for node in ast.walk(source.tree) if isinstance(node, FUNCTION)]
    uses = [len(re.findall(rf"\b{node.name}\b", text)) for node, text in nodes if re.match("_[^_]", node.name)]
    return uses.count(2), len(uses)


def count_words(root: Path) -> int:
    """Count the words of every Markdown file outside the folders whose name starts with a dot."""
    paths = [path for path in root.rglob("*.md") if not re.search(r"(^|/)\.", str(path.relative_to(root)))]
    return sum(len(path.read_text().split()) for path in paths)


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    sources = read_sources(root)
    files = imports_of_files(sources)
    long = [str(source.path) for source in sources if len(source.text.splitlines()) > 300]
    wide = count_shared_names(read_sources(root, ("gsi", "services", "monitoring"), skip=""))
    print(f"lines of code: {count_lines(sources)} in {len(sources)} files")
    print("function length: median {}, 90th percentile {}, longest {}".format(*function_lengths(sources)))
    print(f"files over 300 lines: {len(long)}", *long)
    print(f"circles of imports: {count_circles(files)} of files, {count_circles(imports_of_folders(files))} of folders")
    print(f"names with two homes: {count_shared_names(sources)} ({wide} with monitoring and the generated stubs)")
    print("private helpers used once: {} of {}".format(*private_helpers(sources)))
    print(f"words of documents: {count_words(root)}")


if __name__ == "__main__":
    main()
