"""Programs of the clients' environments, each a process of its own that knows nothing of this repository's packages."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-clients"
PROGRAMS = Path(__file__).parent / "programs"
LIMIT_SECONDS = 300.0  # lm-eval imports for half a minute where others use the processors
# Nothing is fetched from the internet, and nothing is reported there.
OFFLINE = {
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class Ran:
    """What a program that has ended with status 0 has printed."""

    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.stdout)
        return said


def program(environment: str, name: str) -> str:
    """Return the path of a program in one of the environments."""
    path = ENVIRONMENTS / environment / ("" if environment == "node" else "bin") / name
    assert path.exists(), f"{path.relative_to(ROOT)} is missing: make test-clients makes it"
    return str(path)


def variables(home: Path, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a client: its own, and none that would lead it to our packages."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **OFFLINE, **own}


async def run(command: list[str], home: Path, own: Mapping[str, str]) -> Ran:
    """Run a program to its end in a folder. It must end with status 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home,
        env=variables(home, own),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ran = Ran(stdout.decode(), stderr.decode())
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}\n{ran.stderr}\n{ran.stdout}"
    return ran
