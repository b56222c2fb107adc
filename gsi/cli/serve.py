"""``gsi serve``: becomes a process of the system."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from gsi.runtime.installation import SERVICES


class Process(StrEnum):
    """A process by its name, which is that of its package in ``services``."""

    DRAFT = "draft"
    TARGET = "target"
    PRM = "prm"
    COORDINATOR = "coordinator"
    MERGED = "merged"  # target and PRM, which gsi merge wrote
    EXPORTER = "exporter"
    GATEWAY = "gateway"


def serve(
    process: Annotated[Process, typer.Argument(help="Which process.", show_default=False)],
) -> None:
    """Run one process of the system: draft, target, prm, coordinator, exporter or gateway; merged: target and PRM.

    It runs until SIGTERM or Ctrl-C. Its settings are environment variables, GSI_<PROCESS>_…, those of merged
    GSI_TARGET_… and GSI_PRM_…; it is what `python -m services.<process>` runs in a checkout.
    """
    # An interpreter of its own, as in a checkout; -P: what lies in the working folder is not imported.
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"{SERVICES}.{process}"])
