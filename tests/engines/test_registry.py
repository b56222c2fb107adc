"""Engines by name: the class behind a name, and when its runtime is imported."""

import ast
import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gsi.engines import registry
from gsi.engines.base import EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES, EngineTable
from gsi.errors import MisconfiguredError

ROOT = Path(__file__).parents[2]
PLACES = [*LANGUAGE_ENGINES.classes.values(), *REWARD_ENGINES.classes.values(), *registry.PREPARATIONS.values()]


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_there(place: str) -> None:
    """The test reads the source, because vLLM may not be installed."""
    module, _, name = place.partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_every_engine_has_both_kinds() -> None:
    """A system may run all three roles on one engine."""
    assert LANGUAGE_ENGINES.classes.keys() == REWARD_ENGINES.classes.keys()


def test_the_registry_imports_no_runtime() -> None:
    """A process that runs one engine needs the packages of that engine alone."""
    command = "import sys, gsi.engines.registry; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = {name for name in ran.stdout.split() if name.startswith("gsi.engines.")}
    assert imported == {"gsi.engines.base", "gsi.engines.model_path", "gsi.engines.registry"}
    assert not {"torch", "transformers", "vllm"} & set(ran.stdout.split())


async def test_an_engine_that_is_not_installed_is_named_with_its_extra() -> None:
    """The operator chose vllm in an environment that has only transformers."""
    table: EngineTable[object] = EngineTable({"vllm": "no_such_runtime.language:Engine"})  # type: ignore[type-var]
    with pytest.raises(MisconfiguredError, match=r"engine vllm is not installed .*pip install 'gsi-serve\[vllm\]'"):
        await table.load("vllm", EngineSettings("anything"))


class PreparedEngine:
    """An engine in a module that exists only after the preparation."""

    @classmethod
    async def load(cls, settings: EngineSettings) -> str:
        return settings.model


def prepare() -> None:
    module = ModuleType("prepared_runtime")
    vars(module)["Engine"] = PreparedEngine
    sys.modules["prepared_runtime"] = module


async def test_an_engine_is_prepared_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM reads most of its environment when it is imported."""
    monkeypatch.setitem(registry.PREPARATIONS, "prepared", f"{__name__}:prepare")
    table: EngineTable[object] = EngineTable({"prepared": "prepared_runtime:Engine"})  # type: ignore[type-var]
    assert await table.load("prepared", EngineSettings("a model")) == "a model"
    del sys.modules["prepared_runtime"]


class LookingEngine:
    """An engine that looks whether garbage is collected while it loads, and then may fail."""

    @classmethod
    async def load(cls, settings: EngineSettings) -> bool:
        if settings.model == "broken":
            raise MisconfiguredError("broken")
        return gc.isenabled()


async def test_no_garbage_is_looked_for_while_an_engine_loads() -> None:
    """A service starts sooner; afterwards garbage is collected as before, also if there is no engine."""
    table: EngineTable[object] = EngineTable({"looking": f"{__name__}:LookingEngine"})  # type: ignore[type-var]
    assert await table.load("looking", EngineSettings("a model")) is False
    assert gc.isenabled()
    with pytest.raises(MisconfiguredError):
        await table.load("looking", EngineSettings("broken"))
    assert gc.isenabled()
