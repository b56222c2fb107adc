"""Each process, started where a library of its extra is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Python imports a module of this name at its start. The libraries are installed here, and are hidden by it.
HIDES = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {libraries!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize(
    ("process", "libraries", "said"),
    [
        (
            "gateway",
            ["uvicorn"],
            "the gateway cannot start: uvicorn is not installed: pip install 'gsi-serve[gateway]'",
        ),
        ("gateway", ["grpc"], "the gateway cannot start: grpc is not installed: pip install 'gsi-serve[gateway]'"),
        ("coordinator", ["grpc"], "the coordinator cannot start: grpc is not installed: pip install 'gsi-serve[coord"),
        ("draft", ["grpc"], "the draft cannot start: grpc is not installed: pip install 'gsi-serve[transformers]'"),
        ("target", ["grpc"], "the target cannot start: grpc is not installed: pip install 'gsi-serve[transformers]'"),
        ("prm", ["grpc"], "the prm cannot start: grpc is not installed: pip install 'gsi-serve[vllm]'"),
        (
            "exporter",
            ["grpc_health"],
            "the exporter cannot start: grpc_health is not installed: pip install 'gsi-serve[service]'",
        ),
    ],
)
def test_a_process_names_the_extra_that_is_not_installed(
    process: str, libraries: list[str], said: str, tmp_path: Path
) -> None:
    """In one sentence, without a traceback."""
    (tmp_path / "sitecustomize.py").write_text(HIDES.format(libraries=libraries))
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{process}"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "GSI_PRM_ENGINE": "vllm"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(said)
