"""The whole system on one machine: an embedded Redis, the three services and coordinators, on free local ports."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gsi.errors import MisconfiguredError
from gsi.local.child_process import ChildProcess, Report
from gsi.local.embedded_redis import embedded_redis, free_port

SHIPPED_MODELS = Path(__file__).parents[2] / "models"
ROLES = ("draft", "target", "prm")
ROLE_NAMES = tuple(role.upper() for role in ROLES)  # in environment variables

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts. ``addresses`` (gRPC, by role) and ``metrics`` (by process) are host:port."""

    redis_url: str
    addresses: Mapping[str, str]
    processes: Mapping[str, ChildProcess]
    metrics: Mapping[str, str]


@asynccontextmanager
async def local_stack(
    folder: Path,
    report: Report,
    *,
    models: Path | None = None,
    engine: str | None = None,
    queue: str = "default",
    redis_port: int | None = None,
    num_coordinators: int = 1,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Stack]:
    """Start everything, yield when every process is ready, and stop everything in reverse order at the end.

    ``folder`` exists, and gets the logs. ``engine``: of all three services. ``settings``: environment variables of the
    processes, which override those that are set here. Raises MisconfiguredError that names the process at fault.
    """
    with embedded_redis(port=redis_port) as redis_url:
        report("redis", {"event": "ready", "level": "info", "address": redis_url})
        environments = service_environments(models, engine) | coordinator_environments(
            redis_url, queue, num_coordinators
        )
        shared = {f"GSI_COORDINATOR_{role}": environments[role.lower()][f"GSI_{role}_LISTEN"] for role in ROLE_NAMES}
        shared |= settings or {}
        processes = {
            name: ChildProcess(name, _command_of(name), own | shared, folder / f"{name}.log", report)
            for name, own in environments.items()
        }
        try:
            await asyncio.gather(*(process.start() for process in processes.values()))
            yield Stack(
                redis_url,
                addresses={role: environments[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES},
                processes=processes,
                metrics={name: _metrics_of(own) for name, own in environments.items()},
            )
        finally:
            for group in (set(processes) - set(ROLES), ROLES):  # coordinators first: they call the services
                await asyncio.gather(*(processes[name].stop() for name in group))


def service_environments(models: Path | None, engine: str | None) -> dict[str, Environment]:
    """Return the environment of each service. Where an argument is None, the environment of this process decides."""
    environments = {}
    for role in ROLES:
        prefix = f"GSI_{role.upper()}_"
        model = str(models / role) if models else os.environ.get(f"{prefix}MODEL", str(SHIPPED_MODELS / role))
        if models and not (models / role / "config.json").exists():
            raise MisconfiguredError(f"{models} has no model {role}; allowed: a folder with draft, target and prm")
        environments[role] = {
            f"{prefix}LISTEN": _free_address(),
            f"{prefix}METRICS_LISTEN": _free_address(),
            f"{prefix}MODEL": model,
            f"{prefix}NUM_THREADS": os.environ.get(f"{prefix}NUM_THREADS", "1"),  # three services share the cores
            f"{prefix}LOG_FORMAT": "json",  # what ChildProcess reads
        } | ({f"{prefix}ENGINE": engine} if engine else {})
    return environments


def coordinator_environments(redis_url: str, queue: str, num_coordinators: int) -> dict[str, Environment]:
    """Return the environment of each coordinator, without the addresses of the services."""
    return {
        f"coordinator-{number}": {
            "GSI_COORDINATOR_REDIS_URL": redis_url,
            "GSI_COORDINATOR_QUEUE": queue,
            "GSI_COORDINATOR_METRICS_LISTEN": _free_address(),
            "GSI_COORDINATOR_MAX_JOBS": os.environ.get("GSI_COORDINATOR_MAX_JOBS", "4"),  # as do the coordinators
            "GSI_COORDINATOR_LOG_FORMAT": "json",
        }
        for number in range(1, num_coordinators + 1)
    }


def _command_of(name: str) -> list[str]:
    return [sys.executable, "-m", f"services.{name.partition('-')[0]}"]


def _metrics_of(environment: Environment) -> str:
    return next(value for name, value in environment.items() if name.endswith("_METRICS_LISTEN"))


def _free_address() -> str:
    return f"127.0.0.1:{free_port()}"
