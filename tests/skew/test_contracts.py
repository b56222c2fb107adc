"""What this release reads and writes, beside the last release's: protos by buf, payloads, steps and results by schema.

``last_release`` holds the last release's protos and schemas; docs/upgrading.md says when and how they are replaced.
"""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gsi.jobs.payload import PAYLOAD_FORMAT, JobPayload
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.step_record import StepRecord
from tests.skew.last_release_code import LAST_RELEASE, ROOT, read_contracts, unpack_last_release
from tests.skew.schemas import find_changed_defaults, find_gaps

BUF = Path(sys.executable).parent / "buf"
RULES = '{"version":"v2","breaking":{"use":["WIRE_JSON"]}}'

# What 0.1.0 accepted and this release refuses, or what means something else now; each with its reason.
NARROWED = {
    "$.params.method: string": "a method in one word had no limit, and methods were added to its pattern",
    "$.params.weighting: maxLength": "a rule and its numbers in one word had no limit",
    "$.params.weighting: pattern": "two rules were added to the pattern's list",
    "$.params.reward_map: maxLength": "a map and its numbers in one word had no limit",
}


def last(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((LAST_RELEASE / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def check_protos(folder: Path, work: Path) -> subprocess.CompletedProcess[str]:
    """Compare protos with the last release's, by images: buf takes the repository for one module otherwise."""
    for name, source in (("new", folder), ("last", LAST_RELEASE / "protos")):
        subprocess.run([str(BUF), "build", str(source), "-o", f"{name}.binpb"], check=True, cwd=work)
    command = [str(BUF), "breaking", "new.binpb", "--against", "last.binpb", "--config", RULES]
    return subprocess.run(command, check=False, cwd=work, capture_output=True, text=True)


def test_the_contracts_are_those_of_the_last_release(tmp_path: Path) -> None:
    """They are replaced by ``python -m tests.skew.last_release_code``, and never by hand."""
    contracts = tmp_path / "contracts"
    read_contracts(unpack_last_release(tmp_path / "release"), contracts)
    kept = {path.relative_to(contracts): path.read_text(encoding="utf-8") for path in contracts.rglob("*.*")}
    assert len(kept) >= 5
    assert kept == {name: (LAST_RELEASE / name).read_text(encoding="utf-8") for name in kept}


def test_a_service_of_either_release_understands_the_other(tmp_path: Path) -> None:
    """No field of a message is removed, renumbered or of another type."""
    checked = check_protos(ROOT / "protos", tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [("string dtype = 15;", ""), ("uint32 vocabulary_size = 4;", "string vocabulary_size = 4;")],
)
def test_a_field_that_changes_on_the_wire_is_found(tmp_path: Path, before: str, after: str) -> None:
    """The check is worth something. A field that only this release has may still change."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    proto = tmp_path / "protos" / "gsi" / "v1" / "candidates.proto"
    text = proto.read_text(encoding="utf-8")
    assert before in text
    proto.write_text(text.replace(before, after), encoding="utf-8")
    checked = check_protos(tmp_path / "protos", tmp_path)
    is_of_last_release = before in (LAST_RELEASE / "protos" / "gsi" / "v1" / "candidates.proto").read_text()
    assert (checked.returncode != 0) == is_of_last_release, checked.stdout


def test_a_payload_of_the_last_release_is_accepted() -> None:
    """An older client submits to newer coordinators."""
    gaps = find_gaps(JobPayload.model_json_schema(), last("job"))
    assert {" ".join(gap.split()[:2]) for gap in gaps} == set(NARROWED)


def test_a_payload_of_the_last_release_means_what_it_meant() -> None:
    """What a client leaves out has the same default."""
    assert find_changed_defaults(last("job"), JobPayload.model_json_schema()) == []


def test_a_payload_with_something_new_has_a_newer_format() -> None:
    """A coordinator of the last release then leaves the job to a newer one, instead of failing it."""
    has_more = bool(find_gaps(last("job"), JobPayload.model_json_schema()))
    before = int((LAST_RELEASE / "PAYLOAD_FORMAT").read_text(encoding="utf-8"))
    assert before + has_more <= PAYLOAD_FORMAT <= before + 1


@pytest.mark.parametrize(("name", "record"), [("step", StepRecord), ("result", ResultDocument)])
def test_an_older_client_reads_what_this_release_writes(name: str, record: type[StepRecord | ResultDocument]) -> None:
    """Fields may be added. None is removed, and none has a value that the last release did not know."""
    assert find_gaps(last(name), record.model_json_schema(mode="serialization")) == []


@pytest.mark.parametrize(("name", "record"), [("step", StepRecord), ("result", ResultDocument)])
def test_this_release_reads_what_the_last_one_wrote(name: str, record: type[StepRecord | ResultDocument]) -> None:
    """What the last release did not write has a default."""
    assert find_gaps(record.model_json_schema(mode="validation"), last(name)) == []


def test_each_kind_of_incompatible_change_is_found() -> None:
    """A removed field, a new required one, a narrower range, a removed value, another type."""
    written, reader = last("job"), copy.deepcopy(last("job"))
    params = reader["$defs"]["JobParams"]["properties"]
    del params["beta"]
    params["n"]["maximum"] = 128
    params["seed"] = {"type": "string"}
    params["likelihood"] = {"enum": ["sampling"], "type": "string"}
    reader["required"] = [*reader["required"], "tenant"]
    found = "\n".join(find_gaps(reader, written))
    for line in ("$.params.beta: unknown", "$.params.n: maximum 256, not 128", "$.tenant: may be missing"):
        assert line in found
    assert "$.params.seed: integer, not string" in found
    assert "$.params.likelihood: ['model']" in found
