"""Write what is generated: the gRPC stubs in ``gsi/v1`` and the job's JSON Schema in ``docs``.

Usage: ``python scripts/generate.py [FOLDER]``; the folder is the repository's root unless named.
"""

import json
import sys
from pathlib import Path

from grpc_tools import protoc

from gsi.jobs.payload import JobPayload

ROOT = Path(__file__).parents[1]
STUB_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
SERVICELESS = ("candidates_pb2_grpc.py", "candidates_pb2_grpc.pyi")  # protoc writes them empty


def write_stubs(root: Path) -> None:
    """Compile ``protos/`` into ``root``: the proto path is the import path, so no import needs fixing."""
    protos = sorted(str(path) for path in (ROOT / "protos").rglob("*.proto"))
    outputs = [f"--{kind}_out={root}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{name}={_script(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")]
    if protoc.main(["protoc", f"-I{ROOT / 'protos'}", *plugins, *outputs, *protos]):
        sys.exit("protoc failed")
    for name in SERVICELESS:
        (root / "gsi" / "v1" / name).unlink()


def write_schema(root: Path) -> None:
    """Write the JSON Schema of a job's payload."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobPayload.model_json_schema()}
    (root / "docs").mkdir(parents=True, exist_ok=True)
    (root / "docs" / "job.schema.json").write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


def _script(name: str) -> Path:
    return Path(sys.executable).parent / name


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    (root / "gsi" / "v1").mkdir(parents=True, exist_ok=True)
    write_stubs(root)
    write_schema(root)


if __name__ == "__main__":
    main()
