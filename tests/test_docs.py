"""What the documents say is there: files, names, links, states, metrics, settings, keys and examples."""

import ast
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from gsi.algorithm.methods import METHODS
from gsi.algorithm.reward_map import REWARD_MAPS
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.cli.main import load_command
from gsi.errors import InvalidRequestError
from gsi.evaluation.problems import HUB_DATASETS, KNOWN_SHAPES
from gsi.evaluation.records import RecordedJob
from gsi.jobs import keys
from gsi.jobs.connection import RedisAccess
from gsi.jobs.job import parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.method_spec import parse_method
from gsi.jobs.state import TRANSITIONS, JobState
from gsi.jobs.step_record import BranchRecord, CandidateRecord, ProposalRecord
from gsi.runtime.settings import ProcessSettings
from services.gateway.presets import BUILT_IN

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TOP_DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")
DOCUMENTS = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in TOP_DOCUMENTS)])

FOR_OPERATORS = ("settings", "runbook", "redis", "security", "observability", "promises")

PATH = r"`([\w.-]+/[\w./-]*)`"
NAMES = r" \(((?:`\w[\w.]*`(?:, | and )?)+)"  # in parentheses behind a path: names that the file defines
ANCHOR_DROPS = re.compile(r"[^\w\- ]")
CLIENT_VARIABLES = {"GSI_REDIS_URL", "GSI_QUEUE", *(f"GSI_REDIS_{field.name.upper()}" for field in fields(RedisAccess))}
OTHER_VARIABLES = CLIENT_VARIABLES | {"GSI_DRAFT_PORT", "GSI_URL"}  # Kubernetes writes one, examples the other
METRIC = re.compile(r"gsi_[a-z_]+[a-z]")
COMMAND = re.compile(r"^(?:\$ )?\.venv/bin/gsi (.+?)(?:\s+#.*)?$", re.MULTILINE)  # a line of a code block
SHORTHANDS = re.compile(rf"`((?:{'|'.join(METHODS)}):[^`…{{]+)`")
PARTS_OF_A_HISTOGRAM = ("_bucket", "_count", "_sum")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Return what stands under a heading of level 2."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("document", ["lifecycle.md", "algorithm.md", "methods.md", "evaluation.md", "decisions"])
def test_a_path_that_a_document_names_exists(document: str) -> None:
    """Moving a file without its documents fails here."""
    paths = [DOCS / document] if document.endswith(".md") else sorted((DOCS / document).glob("*.md"))
    named = {path for document in paths for path in re.findall(PATH, text_of(document))}
    assert named
    named -= {"gsi-eval/", *(hub.path for hub in HUB_DATASETS.values())}  # made by a command, on the hub
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_repository_map_names_what_exists() -> None:
    """Every folder of the README's map is there, and every folder of ours is on it."""
    mapped = set(re.findall(PATH, section(text_of(ROOT / "README.md"), "Repository map")))
    assert [path for path in sorted(mapped) if not (ROOT / path).is_dir()] == []
    packages = {f"gsi/{init.parent.name}/" for init in (ROOT / "gsi").glob("*/__init__.py")}
    assert packages <= mapped


@pytest.mark.parametrize("document", ["lifecycle.md", "algorithm.md", "promises.md"])
def test_a_name_behind_a_path_is_defined_in_that_file(document: str) -> None:
    """Renaming a function without its documents fails here."""
    text = re.sub(r"\s+", " ", text_of(DOCS / document))
    references = re.findall(PATH + NAMES, text)
    assert len(references) > 10
    missing = [
        f"{path}: {name}"
        for path, names in references
        for name in re.findall(r"`([\w.]+)`", names)
        if name not in defined_names(ast.parse(text_of(ROOT / path)).body)
    ]
    assert missing == []


def test_every_line_of_the_lifecycle_names_a_file() -> None:
    """The map has no line that leads nowhere."""
    life = text_of(DOCS / "lifecycle.md").split("\n## ")[0]
    numbered = re.split(r"\n\d+\. ", life)[1:]
    assert len(numbered) >= 13
    assert [line for line in numbered if not re.search(PATH, line)] == []


def test_the_state_diagram_shows_the_table_of_transitions() -> None:
    """The diagram has every legal move and no other."""
    moves = re.findall(r"^ +(\S+) --> (\S+)$", text_of(DOCS / "lifecycle.md"), re.MULTILINE)
    legal = {
        (before or "[*]", after or "[*]")
        for by_state in TRANSITIONS.values()
        for before, all_after in by_state.items()
        for after in all_after
    }
    ends = {(state, "[*]") for state in JobState if state.is_finished}
    assert sorted(moves) == sorted(legal | ends)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_relative_link_leads_somewhere(document: Path) -> None:
    """Links resolve, to the heading where they name one."""
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(document))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not resolves(document, link)] == []


def test_every_metric_has_a_row_in_its_document() -> None:
    """However it is made; what a row says is held to the code by tests/test_generated.py."""
    rows = re.findall(r"^\| `(gsi_\w+)` \|", text_of(DOCS / "metrics.md"), re.MULTILINE)
    assert sorted(rows) == sorted(metrics_in_code())


def test_every_documented_metric_is_in_the_code() -> None:
    """The queries and texts of docs/metrics.md name no other series."""
    names = {base_name(name) for name in METRIC.findall(text_of(DOCS / "metrics.md"))}
    assert names - {"gsi_gpu"} == set(metrics_in_code())


def test_every_setting_is_documented_with_its_default() -> None:
    """A setting in the code has a row in docs/settings.md, with its default and its description."""
    rows = [line.split(" | ") for line in text_of(DOCS / "settings.md").splitlines() if line.startswith("| `GSI_")]
    missing = [
        f"| `{variable}` | {default} | {description}"
        for variable, default, description in settings()
        if not any(f"`{variable}`" in row[0] and row[1] == default and description in row[-1] for row in rows)
    ]
    assert missing == []


def test_every_documented_setting_is_in_the_code() -> None:
    """The documents for operators and the README name no variable that a process would refuse."""
    known = {variable for variable, _, _ in settings()} | OTHER_VARIABLES
    prefixes = {str(kind.model_config["env_prefix"]) for kind in settings_classes()}
    documents = [*(DOCS / f"{name}.md" for name in FOR_OPERATORS), ROOT / "README.md"]
    named = {name for document in documents for name in re.findall(r"\bGSI_[A-Z_]+", text_of(document))}
    assert named - prefixes - known == set()


def test_every_key_is_documented() -> None:
    """The table of keys in docs/redis.md is that of the code."""
    pattern = r"\| `?(gsi:\{q\}:[\w:<>]+)`? +\| (\w+) +\|"
    assert set(re.findall(pattern, text_of(DOCS / "redis.md"))) == set(re.findall(pattern, str(keys.__doc__)))


def test_the_readme_is_short() -> None:
    """A newcomer reads it in five minutes; what does not fit has a document of its own."""
    assert len(text_of(ROOT / "README.md").split()) <= 1300


@pytest.mark.parametrize("document", ["README.md", "docs/jobs.md"])
def test_the_payload_in_a_document_is_a_job(document: str) -> None:
    """What a document tells users to push is accepted."""
    payloads = re.findall(r"job '(\{.*\})'", text_of(ROOT / document))
    assert payloads
    assert all(parse_payload(payload).prompt for payload in payloads)


def test_every_method_has_a_row_in_its_document() -> None:
    """A method in the code is in the table of docs/methods.md, and no other."""
    described = re.findall(r"^\| `([\w-]+)` \|(?:[^|\n]+\|){4}$", text_of(DOCS / "methods.md"), re.MULTILINE)
    assert described == list(METHODS)


@pytest.mark.parametrize(
    ("heading", "registry"),
    [
        ("Weightings: when RSD accepts", WEIGHTINGS),
        ("Reward maps: what a reward model's number means", REWARD_MAPS),
    ],
)
def test_every_rule_is_documented_with_its_numbers(heading: str, registry: Mapping[str, Any]) -> None:
    """The tables of weightings and reward maps have each class, its numbers in order, and their defaults."""
    rows = re.findall(
        r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \|", section(text_of(DOCS / "methods.md"), heading), re.MULTILINE
    )
    shown = {
        name: ", ".join(f"`{field.name}` ({field.default:g})" for field in fields(kind)) or "none"
        for name, kind in registry.items()
    }
    assert dict(rows) == shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_method_in_the_shorthand_is_one(document: Path) -> None:
    """What a document writes as name:option can be written so in a job; the example of a new rule is its own test."""
    for spec in SHORTHANDS.findall(text_of(document)):
        if "square" not in spec and spec not in BUILT_IN:  # which are names of models
            parse_payload({"prompt": "-", "params": parse_method(spec, list(JobParams.model_fields))})


def test_a_refusal_in_the_methods_document_is_what_a_user_reads() -> None:
    """The parameters in its table are refused by its sentences."""
    rows = re.findall(r"^\| `(\{.+\})` \| `(.+)` \|$", text_of(DOCS / "methods.md"), re.MULTILINE)
    assert len(rows) > 5
    for params, sentence in rows:
        with pytest.raises(InvalidRequestError) as refused:
            parse_payload({"prompt": "-", "params": json.loads(params)})
        assert str(refused.value) == sentence


def test_every_field_of_a_record_is_documented() -> None:
    """A job's in docs/evaluation.md, a proposal's and a branch's in docs/methods.md, and no other."""
    evaluation, methods = text_of(DOCS / "evaluation.md"), text_of(DOCS / "methods.md")
    assert documented_fields(section(evaluation, "Records")) == set(RecordedJob.model_fields)
    candidates = {f"candidates[].{name}" for name in CandidateRecord.model_fields}
    kept = documented_fields(section(methods, "Keeping every candidate"))
    assert kept == set(ProposalRecord.model_fields) | candidates
    branches = {"branches", *(f"branches[].{name}" for name in BranchRecord.model_fields)}
    assert documented_fields(section(methods, "Searches: methods that keep several trajectories")) == branches


def test_every_data_set_is_documented_with_its_place_and_source() -> None:
    """The table of docs/evaluation.md has each name's path on the hub and who made it, and each shape of a file."""
    described = section(text_of(DOCS / "evaluation.md"), "Data sets")
    for name, hub in HUB_DATASETS.items():
        parts = [f"`{part}`" for part in (hub.path, hub.config) if part] + [f"split `{hub.split}`"]
        assert f"| `{name}` | {', '.join(parts)}" in described
        assert f"| {hub.source} |" in described
    for shape in KNOWN_SHAPES:
        assert all(f"`{name}`" in described for name in (shape.problem, shape.answer, shape.choices, shape.id) if name)


@pytest.mark.parametrize("name", ["eval", "calibrate", "theory"])
def test_every_option_is_documented(name: str) -> None:
    """An option of the command is in the section that is called after it."""
    described = section(text_of(DOCS / "evaluation.md"), f"gsi {name}")
    names = {option for option in options_of(name) if option.startswith("--")} - {"--help"}
    assert {option for option in names if not re.search(rf"`{option}[` ]", described)} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_has_the_options_that_a_document_gives_it(document: Path) -> None:
    """``gsi`` in a code block is called as it can be called."""
    for line in COMMAND.findall(text_of(document)):
        words = shlex.split(line)
        given = {word for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options_of(*words)


def options_of(*words: str) -> set[str]:
    """Return the options of a command of ``gsi``, by the words that it is called with."""
    name, *rest = words
    command: Any = load_command(name)
    for word in rest:
        if hasattr(command, "commands"):
            command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def documented_fields(text: str) -> set[str]:
    """Return the names in the first column of the tables in a text, in backticks there."""
    cells = re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def defined_names(body: list[ast.stmt], owner: str = "") -> set[str]:
    """Return the functions, classes, methods and constants that a module or class body defines."""
    names: set[str] = set()
    for node in body:
        match node:
            case ast.ClassDef(name=name):
                names |= {owner + name} | defined_names(node.body, f"{owner}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(owner + name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(owner + name)
    return names


def resolves(document: Path, link: str) -> bool:
    """Return whether a link leads to a file, and to a heading of it if it names one."""
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", text_of(target), re.MULTILINE) if anchor else []
    return not anchor or anchor in {ANCHOR_DROPS.sub("", heading.lower()).replace(" ", "-") for heading in headings}


def metrics_in_code() -> list[str]:
    """Return the name of every series, read off the syntax trees: the first argument of the call that makes it."""
    sources = [path for folder in ("gsi", "services") for path in (ROOT / folder).rglob("*.py")]
    calls = (node for path in sources for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.Call))
    return [name for call in calls for name in metric_of(call)]


def metric_of(call: ast.Call) -> Iterator[str]:
    match call:
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if METRIC.fullmatch(name):
            yield name


def base_name(name: str) -> str:
    """Return the series that a name in a query belongs to."""
    return next((name.removesuffix(part) for part in PARTS_OF_A_HISTOGRAM if name.endswith(part)), name)


def settings_classes() -> list[type[ProcessSettings]]:
    """Return the settings class of every process."""
    names = [path.parent.name for path in sorted((ROOT / "services").glob("*/settings.py"))]
    modules = [importlib.import_module(f"services.{name}.settings") for name in names]
    values = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    return [kind for kind in values if issubclass(kind, ProcessSettings) and kind.model_config["env_prefix"]]


def settings() -> Iterator[tuple[str, str, str]]:
    """Yield variable, default and description of every setting."""
    for kind in settings_classes():
        for name, field in kind.model_fields.items():
            yield f"{kind.model_config['env_prefix']}{name.upper()}", shown_default(field), field.description or ""


def shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "unset" if field.default is None else str(field.default) or "empty"
