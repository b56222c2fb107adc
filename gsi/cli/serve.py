"""``gsi serve``: becomes a process of the system."""

import os
import sys
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from gsi.cli.terminal import explain_errors
from gsi.errors import MisconfiguredError
from gsi.runtime.installation import SERVICES, how_to_install


class Process(StrEnum):
    """A process by its name, which is that of its package in ``services``."""

    DRAFT = "draft"
    TARGET = "target"
    PRM = "prm"
    COORDINATOR = "coordinator"
    GATEWAY = "gateway"


SHARED = ("google", "grpc", "grpc_health", "grpc_reflection", "prometheus_client", "pydantic_settings", "pynvml")
NEEDS = {  # the extra of a process, and what it imports of it beside what they all import
    Process.COORDINATOR: ("coordinator", ("math_verify",)),
    Process.GATEWAY: ("gateway", ("fastapi", "fsspec", "limits", "python_multipart", "sse_starlette", "uvicorn")),
}


def serve(
    process: Annotated[Process, typer.Argument(help="Which process.", show_default=False)],
) -> None:
    """Run one process of the system: draft, target, prm, coordinator or gateway.

    It runs until SIGTERM or Ctrl-C. Its settings are environment variables, GSI_<PROCESS>_…; it is what
    `python -m services.<process>` runs in a checkout.
    """
    with explain_errors():
        refuse_missing(process)
    # An interpreter of its own, as in a checkout; -P: what lies in the working folder is not imported.
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"{SERVICES}.{process}"])


def refuse_missing(process: Process) -> None:
    """Raise MisconfiguredError that names the extra if a library of the process is not installed."""
    extra, own = NEEDS.get(process, (os.environ.get(f"GSI_{process.upper()}_ENGINE", "transformers"), ()))
    missing = [name for name in (*SHARED, *own) if find_spec(name) is None]
    if missing:
        raise MisconfiguredError(f"gsi serve {process} needs {', '.join(missing)}: {how_to_install(extra)}")
