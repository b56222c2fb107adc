"""Write what is generated: gRPC stubs, JSON Schemas, tables, chart values, the SDK's reference, badges, the version.

Usage: ``python scripts/generate.py [FOLDER]``; the folder is the repository's root unless named.
"""

import json
import re
import sys
from pathlib import Path
from pkgutil import resolve_name

import badges
import helm_values
import sdk_reference
import settings_tables
import versions
from grpc_tools import protoc

from gsi.algorithm.candidates import Source
from gsi.algorithm.method import Method
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.jobs.payload import JobPayload
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.step_record import StepRecord
from gsi.runtime.series import Declaration, Series, Values

ROOT = Path(__file__).parents[1]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TABLE = re.compile(r"(?<=<!-- series: )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)  # the declaring object, the table
METHODS_TABLE = re.compile(r"(?<=<!-- methods -->\n).*?(?=<!-- end -->)", re.DOTALL)
SERVICELESS = ("candidates_pb2_grpc.py", "candidates_pb2_grpc.pyi")  # a proto without a service: protoc writes no code


def write_stubs(root: Path) -> None:
    """Compile ``protos/`` into ``root``: the proto path is the import path, so no import needs fixing."""
    protos = sorted(str(path) for path in (ROOT / "protos").rglob("*.proto"))
    outputs = [f"--{kind}_out={root}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{name}={_find_script(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")]
    if protoc.main(["protoc", f"-I{ROOT / 'protos'}", *plugins, *outputs, *protos]):
        sys.exit("protoc failed")
    for name in SERVICELESS:
        (root / "gsi" / "v1" / name).unlink()


def write_schemas(root: Path) -> None:
    """Write the JSON Schemas of what other languages write (a job) and read (a step, a result)."""
    schemas = {
        "job": JobPayload.model_json_schema(),
        "step": StepRecord.model_json_schema(mode="serialization"),
        "result": ResultDocument.model_json_schema(mode="serialization"),
    }
    (root / "docs").mkdir(parents=True, exist_ok=True)
    for name, schema in schemas.items():
        text = json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False)
        (root / "docs" / f"{name}.schema.json").write_text(text + "\n")


def write_metrics(root: Path) -> None:
    """Write the tables of ``docs/metrics.md``; the text around them stays."""
    name = Path("docs") / "metrics.md"
    text = (ROOT / name).read_text(encoding="utf-8")
    (root / name).write_text(
        TABLE.sub(lambda found: found[1] + found[2] + _make_table(found[1]), text), encoding="utf-8"
    )


def write_methods(root: Path) -> None:
    """Write the table of ``docs/methods.md``."""
    name = Path("docs") / "methods.md"
    head = "| method | what it does | asks | its parameters | source |\n|---|---|---|---|---|\n"
    table = head + "".join(map(_method_row, METHODS.values()))
    text = (ROOT / name).read_text(encoding="utf-8")
    (root / name).write_text(METHODS_TABLE.sub(lambda _: table, text), encoding="utf-8")


def _method_row(method: Method) -> str:
    parameters = ", ".join(f"`{name}`" for name in method.parameters) or "none"
    return f"| `{method.name}` | {method.summary} | {_models_of(method)} | {parameters} | {method.source} |\n"


def _models_of(method: Method) -> str:
    """Return the models that a method may ask, over all roles and weightings."""
    params = [Params(role=role, weighting=rule()) for role in Source for rule in WEIGHTINGS.values()]
    always = frozenset.intersection(*map(method.models, params))
    if not always & set(Source):
        return ", ".join(["one model", *sorted(always)])
    writers = frozenset().union(*map(method.writers, params))
    asked = frozenset().union(*map(method.models, params))
    names = [name if name in writers or name == "prm" else f"{name} (scores only)" for name in (*Source, "prm")]
    return ", ".join(text for name, text in zip((*Source, "prm"), names, strict=True) if name in asked)


def _make_table(where: str) -> str:
    """Return the table of the series that an object (``module:name``) declares."""
    series: Series = resolve_name(where)
    head = "| name | type | labels and their values | unit | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(_make_row(declared) for declared in series.declarations)


def _make_row(declared: Declaration) -> str:
    labels = "; ".join(f"`{name}`: {_list_values(values)}" for name, values in declared.labels.items())
    cells = (f"`{declared.name}`", declared.kind, labels, declared.unit, declared.meaning)
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _list_values(values: Values) -> str:
    return values if isinstance(values, str) else ", ".join(values)


def _find_script(name: str) -> Path:
    return Path(sys.executable).parent / name


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    (root / "gsi" / "v1").mkdir(parents=True, exist_ok=True)
    write_stubs(root)
    write_schemas(root)
    write_methods(root)
    write_metrics(root)
    settings_tables.write(root)
    helm_values.write(root)
    sdk_reference.write(root)
    badges.write(root)
    versions.write(root)


if __name__ == "__main__":
    main()
