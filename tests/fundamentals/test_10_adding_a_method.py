"""A method is a file and a line: the example of docs/methods.md, taken from the page and run.

The fixture ``added`` is the system with the file in ``gsi/algorithm/methods/`` and the line in ``MODULES`` there.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from gsi.algorithm.candidates import Source
from gsi.algorithm.generate import generate
from gsi.algorithm.methods import METHODS, MODULES, load_methods
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from gsi.cli.main import app
from gsi.errors import InvalidRequestError
from gsi.evaluation.plan import Plan, plan_rows
from gsi.jobs.job import parse_payload
from gsi.jobs.payload import JobPayload
from gsi.jobs.step_record import StepRecord
from tests.fundamentals.tiny import START, TINY

ROOT = Path(__file__).parents[2]
NAME = "shortest-of-n"


def blocks() -> tuple[str, str]:
    """Return the page's module and its line."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    section = page.partition("\n## Adding a method\n")[2].partition("\n## ")[0]
    module, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return module, line


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the page's file where the page says, and load its line as the package does."""
    code, line = blocks()
    (module_name,) = eval(f"({line})")
    module = ModuleType(f"gsi.algorithm.methods.{module_name}")
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, method in load_methods([module_name]).items():
        monkeypatch.setitem(METHODS, name, method)


def test_it_is_one_line_of_the_package() -> None:
    """Beside its file; every other module has such a line too."""
    assert len(blocks()[1].splitlines()) == 1
    assert set(load_methods(MODULES)) == set(METHODS) - {NAME}


def test_a_payload_may_name_it_and_the_schema_lists_it() -> None:
    """With the options of its parameters, and not with those of other methods."""
    params = parse_payload({"prompt": "?", "params": {"method": f"{NAME}:target:n=3"}}).params
    assert (params.method, params.role, params.n) == (NAME, Source.TARGET, 3)
    schema = JobPayload.model_json_schema()["$defs"]["JobParams"]["properties"]["method"]
    assert NAME in schema["anyOf"][0]["enum"]
    assert re.fullmatch(schema["anyOf"][1]["pattern"], f"{NAME}:n=3")
    with pytest.raises(InvalidRequestError, match=f'option "clip" is not allowed with {NAME}'):
        parse_payload({"prompt": "?", "params": {"method": f"{NAME}:clip"}})


def test_a_payload_is_refused_where_the_method_says_so() -> None:
    """It asks for no reward, so none can be too low."""
    with pytest.raises(InvalidRequestError, match=f"reward_floor: method {NAME} asks for no reward"):
        parse_payload({"prompt": "?", "params": {"method": NAME, "reward_floor": 0.1}})


def test_the_command_line_lists_it() -> None:
    """Where a name is wrong, the error says which names there are."""
    said = CliRunner().invoke(app, ["submit", "-p", "method=magic", "A question"])
    assert said.exit_code != 0
    assert NAME in re.sub(r"\s+", " ", said.stderr)


def test_the_document_lists_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``make protos`` writes its row."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    (tmp_path / "docs").mkdir()
    importlib.import_module("generate").write_methods(tmp_path)
    row = f"| `{NAME}` | one model writes n candidates a step, and the shortest wins | one model | `n`, `role` | "
    assert row in (tmp_path / "docs" / "methods.md").read_text(encoding="utf-8")


def test_an_evaluation_may_compare_it() -> None:
    """At every n that is asked for, since n is one of its parameters."""
    asked = Plan(dataset="arithmetic", methods=(NAME, "draft"), ns=(1, 4), seeds=1)
    assert [(row.label, row.n) for row in plan_rows(asked)] == [(NAME, 1), (NAME, 4), ("draft", 1)]


async def test_it_writes_answers_that_are_kept_like_any_other() -> None:
    """Its rounds go through the same loop, and through the same records."""
    rounds: list[Round] = []

    async def keep(made: Round) -> None:
        rounds.append(made)

    answer, _ = await generate(START, Params(method=NAME, n=4), TINY, 1, keep=keep, max_length=1000)
    kept = [StepRecord.from_json(StepRecord.from_round(made, keep_candidates=True).to_json()) for made in rounds]
    assert "".join(record.text for record in kept) == answer.text
    assert all(len(made.proposals[0].candidates) == 4 for made in rounds)
