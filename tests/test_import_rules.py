"""Three layers, one import direction: rules <- processes -> adapters. Read off the syntax trees."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIMES = {"torch", "transformers", "vllm"}
SOURCES = sorted(
    path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts
)


def modules_imported_by(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def packages_imported_by(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in modules_imported_by(path)}


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_gsi_itself_imports_nothing() -> None:
    """Importing the package costs nothing."""
    assert list(modules_imported_by(ROOT / "gsi" / "__init__.py")) == []


def test_an_import_goes_in_the_allowed_direction(source: Path) -> None:
    """Each layer imports what it may, and nothing else."""
    where = source.relative_to(ROOT)
    modules, packages = set(modules_imported_by(source)), packages_imported_by(source)
    if where.is_relative_to("gsi/algorithm"):
        own = {module for module in modules if module.startswith("gsi.algorithm")}
        assert {module.partition(".")[0] for module in modules - own} <= set(sys.stdlib_module_names)
    if where.is_relative_to("gsi/engines"):
        assert not packages & {"grpc", "redis"}
    inside_a_runtime = where.is_relative_to("gsi/engines/inside_vllm")
    if not inside_a_runtime and not where.name.endswith(("_engine.py", "_reward.py")):
        assert not packages & RUNTIMES
    if not where.is_relative_to("gsi/jobs") and where.name != "embedded_redis.py":
        assert "redis" not in packages
    if where.name != "otlp.py":
        assert "opentelemetry" not in packages
    if where.parts[0] == "gsi":
        assert "services" not in packages
    else:
        siblings = {".".join(module.split(".")[:2]) for module in modules if module.startswith("services.")}
        assert siblings <= {".".join(where.parts[:2])}
