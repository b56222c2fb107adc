"""Imports go one way: down a list of packages, and never in a circle. Read off the syntax trees."""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each may import itself and what stands above it.
FLOORS = (
    "gsi.v1",  # generated
    "gsi.limits",
    "gsi.errors",
    "gsi.suggestions",
    "gsi.limits",
    "gsi.algorithm",
    "gsi.planning",
    "gsi.model_info",
    "gsi.router_file",
    "gsi.runtime",
    "gsi.grading",
    "gsi.jobs",
    "gsi.engines",
    "gsi.rpc",
    "gsi.check",
    "gsi.client",
    "gsi.local",
    "gsi.evaluation",
    "gsi.cli",
    "services",
)

RUNTIMES = {"torch", "transformers", "safetensors", "tokenizers", "vllm"}
RUNTIME_FOLDERS = ("gsi/engines/hugging_face", "gsi/engines/on_transformers", "gsi/engines/on_vllm")
MAY_IMPORT = {  # a library, and the folders or files that alone may import it
    "httpx2": ("gsi/engines/on_remote",),
    "redis": ("gsi/jobs", "gsi/local/embedded_redis.py"),
    "opentelemetry": ("gsi/runtime/tracing.py",),
    "grpc": ("gsi/rpc", "gsi/v1", "services"),
    "sklearn": ("gsi/evaluation/router_training.py",),
}
CONSISTS_OF = {"services.merged": ("services.target", "services.prm")}  # a process that serves what others serve apart
SOURCES = sorted(
    path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts
)


@cache
def modules_imported_by(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, inside functions too."""
    return tuple(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            modules = [f"{module}.{name.name}" for name in node.names if f"{module}.{name.name}" in FILE_OF]
            yield from modules or [module]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILE_OF = {module_of(path): path for path in SOURCES}


def folder_of(module: str) -> str:
    return module_of(FILE_OF[module].parent / "__init__.py")


def floor_of(module: str) -> str | None:
    """Return the package of ours that a module is in; None for one of somebody else."""
    return next((floor for floor in FLOORS if module == floor or module.startswith(f"{floor}.")), None)


def circle_in(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the modules of a circle; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_gsi_itself_imports_nothing() -> None:
    """Importing the package costs nothing: what it exports is imported for type checkers, or when it is asked for."""
    body = ast.parse((ROOT / "gsi" / "__init__.py").read_text()).body
    (types_alone,) = (each for each in body if isinstance(each, ast.If))
    assert ast.unparse(types_alone.test) == "TYPE_CHECKING"
    at_once = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(each) for each in at_once] == ["from typing import TYPE_CHECKING, Any"]


def test_every_package_has_a_floor() -> None:
    """A new package takes its place in the list."""
    assert {floor_of(module) for module in FILE_OF if module != "gsi"} == set(FLOORS) - {"gsi.v1"}


def test_an_import_goes_down(source: Path) -> None:
    """A package imports itself and those above it in the list; a service imports those that it consists of."""
    own = floor_of(module_of(source))
    imported = {module: floor_of(module) for module in modules_imported_by(source)}
    allowed = FLOORS[: FLOORS.index(own) + 1] if own else ()
    if module_of(source) == "gsi":  # the front door shows what the SDK has
        allowed = FLOORS[: FLOORS.index("gsi.client") + 1]
    assert [module for module, floor in imported.items() if floor is not None and floor not in allowed] == []
    if own == "services":
        siblings = {".".join(module.split(".")[:2]) for module in imported if module.startswith("services.")}
        service = ".".join(module_of(source).split(".")[:2])
        assert siblings <= {service, *CONSISTS_OF.get(service, ())}


def test_no_file_imports_itself_by_way_of_others() -> None:
    """No circle of files, imports inside functions counted."""
    assert (
        circle_in({module: [m for m in modules_imported_by(path) if m in FILE_OF] for module, path in FILE_OF.items()})
        == []
    )


def test_no_folder_imports_itself_by_way_of_others() -> None:
    """No circle of folders, in a package or across packages; a folder may import its parent."""
    imports: dict[str, set[str]] = {}
    for module, path in FILE_OF.items():
        own = folder_of(module)
        others = {folder_of(other) for other in modules_imported_by(path) if other in FILE_OF}
        imports.setdefault(own, set()).update(
            other for other in others if not (own.startswith(other) or other.startswith(own))
        )
    assert circle_in(imports) == []


def test_a_circle_is_found() -> None:
    """The tests above can fail."""
    assert circle_in({"a": ["b"], "b": ["c"], "c": ["a"]})
    assert not circle_in({"a": ["b", "c"], "b": ["c"]})


def test_a_library_is_imported_only_where_it_belongs(source: Path) -> None:
    """A model runtime in its folder, redis in gsi.jobs, and the rules import the standard library alone."""
    where = source.relative_to(ROOT)
    libraries = {module.partition(".")[0] for module in modules_imported_by(source) if floor_of(module) is None}
    if where.is_relative_to("gsi/algorithm"):
        assert libraries <= set(sys.stdlib_module_names)
    if not any(where.is_relative_to(folder) for folder in RUNTIME_FOLDERS):
        assert not libraries & RUNTIMES
    for library, places in MAY_IMPORT.items():
        if not any(where.is_relative_to(place) for place in places):
            assert library not in libraries
