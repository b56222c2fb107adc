"""An acceptance rule is a class and a line: the example of docs/methods.md, taken from the page and run.

The fixture ``jobs`` is ``gsi.jobs.job`` as it would be with the class and the line in ``gsi/algorithm/weighting.py``.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

import gsi.jobs.job
from gsi.algorithm import weighting
from gsi.algorithm.candidates import Outcome
from gsi.algorithm.params import Params
from gsi.errors import InvalidRequestError
from gsi.evaluation.plan import Plan, plan_rows
from tests.algorithm.worlds import make_first_round
from tests.fundamentals.tiny import BAD, GOOD, START, TINY

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"
MAX_LINES = 20
SEEDS = range(300)


def blocks() -> tuple[str, str]:
    """Return the page's class and its line of the registry."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Adding an acceptance rule in twenty lines\n")[2]
    rule, line = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return rule, line


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put the page's code where the page says, and import what reads it anew."""
    rule, line = blocks()
    module = dict(vars(weighting))
    exec(rule, module)
    added: dict[str, Any] = eval(f"{{{line}}}", module)
    for name, kind in added.items():
        monkeypatch.setitem(cast("dict[str, Any]", weighting.WEIGHTINGS), name, kind)
    for name in ("param_choices", "job_params", "payload", "payload_errors", "job"):
        monkeypatch.setattr(gsi.jobs, name, getattr(gsi.jobs, name))  # which the import below replaces: to be put back
        monkeypatch.delitem(sys.modules, f"gsi.jobs.{name}")
    return importlib.import_module("gsi.jobs.job")


def params_of(jobs: ModuleType, **params: Any) -> Params:
    """Return what a coordinator makes of a job with these parameters."""
    made: Params = jobs.parse_payload({"prompt": "?", "params": params}).params.to_params()
    return made


def test_the_rule_has_at_most_twenty_lines() -> None:
    """The class and its line of the registry together."""
    assert 2 < sum(len(block.splitlines()) for block in blocks()) <= MAX_LINES


def test_a_payload_may_name_it(jobs: ModuleType) -> None:
    """With its number, without it, or in one word."""
    in_full = params_of(jobs, method="rsd", weighting={"name": "square", "power": 3})
    assert params_of(jobs, method="rsd", weighting="square=3") == in_full
    assert params_of(jobs, method="rsd:square=3") == in_full
    assert in_full.weighting.weight(0.5, 0.0) == 0.125
    assert params_of(jobs, method="rsd:square").weighting.weight(0.5, 0.0) == 0.25


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"name": "square", "power": -1},
            "params.weighting: power is -1; allowed: a finite number above 0",
            id="a number that is not allowed",
        ),
        pytest.param(
            {"name": "square", "force": 1},
            "params.weighting.square.force: unknown; allowed: name, power",
            id="a number that it does not have",
        ),
        pytest.param("square=1/2", "params.weighting: square=1/2 has 2 numbers; allowed: power", id="too many numbers"),
    ],
)
def test_its_errors_name_what_is_allowed(jobs: ModuleType, given: Any, sentence: str) -> None:
    """The sentence of the class's own check, and those that come for free."""
    with pytest.raises(InvalidRequestError) as refused:
        jobs.parse_payload({"prompt": "?", "params": {"method": "rsd", "weighting": given}})
    assert str(refused.value) == sentence


def test_the_schema_has_it(jobs: ModuleType) -> None:
    """``make protos`` writes it for programs in other languages."""
    definition = jobs.JobPayload.model_json_schema()["$defs"]["Square"]
    assert definition["properties"]["power"] == {"default": 2.0, "title": "Power", "type": "number"}
    assert definition["description"] == "w = r^power, of a reward that is cut to [0, 1]."


def test_an_evaluation_may_compare_it(jobs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's label is the rule's name."""
    monkeypatch.setattr("gsi.evaluation.plan.parse_payload", jobs.parse_payload)
    asked = Plan(dataset="arithmetic", methods=("rsd:square=3", "rsd"), ns=(4,), seeds=1)
    assert [row.label for row in plan_rows(asked)] == ["rsd:square=3", "rsd"]


async def test_it_decides_who_writes_the_step(jobs: ModuleType) -> None:
    """By the square, a step of reward 0.8 is kept in 64 of 100 cases, one of reward 0.1 in 1 of 100."""
    params = params_of(jobs, method="rsd:square", n=1)
    made = [await make_first_round(params, TINY, seed, START) for seed in SEEDS]
    for text, weight in ((GOOD, 0.64), (BAD, 0.01)):
        drafted = [m for m in made if m.proposals[0].candidates[0].text == text]
        kept = sum(m.step.outcome is Outcome.ACCEPTED for m in drafted)
        deviation = (weight * (1 - weight) * len(drafted)) ** 0.5
        assert abs(kept - weight * len(drafted)) < 4 * deviation
