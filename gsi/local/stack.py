"""The whole system on one machine: an embedded Redis, the three services and coordinators, on free local ports."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from gsi.errors import MisconfiguredError
from gsi.local.arrangement import Arrangement
from gsi.local.child_process import ChildProcess, Event, Report
from gsi.local.embedded_redis import free_port, is_free, read_server_line, server_command, url_of
from gsi.local.forks import ForkedChild, ForkServer
from gsi.router_file import ROUTER_FILE
from gsi.runtime.installation import SERVICES, SHIPPED_MODELS

ROLES = ("draft", "target", "prm")
GATEWAY_PORT = 8000
EVALUATIONS = Path("gsi-eval")  # where gsi eval writes, unless a folder is named
# What the processes import, without the modules that they start as. Torch, transformers and gRPC are in it.
SERVICE_MODULES = (
    "gsi.engines.on_transformers.language",
    "gsi.engines.on_transformers.reward",
    "gsi.rpc.service_process",
    f"{SERVICES}.draft.servicer",
    f"{SERVICES}.target.servicer",
    f"{SERVICES}.prm.servicer",
)
COORDINATOR_MODULES = (
    f"{SERVICES}.coordinator.background",
    f"{SERVICES}.coordinator.models",
    f"{SERVICES}.coordinator.runner",
    f"{SERVICES}.coordinator.worker",
)
MERGED = "merged"  # the process that serves target and PRM as one model
MERGED_GROUPS = (("draft", MERGED),)
ROLE_NAMES = tuple(role.upper() for role in ROLES)  # in environment variables

Environment = dict[str, str]
Groups = Sequence[Sequence[ChildProcess]]


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts. ``addresses`` (gRPC, by role) and ``metrics`` (by process) are host:port.

    ``processes`` are those of this project: services and coordinators. ``forks``: what they are forks of, if they are.
    """

    redis_url: str
    redis: ChildProcess
    forks: ForkServer | None
    addresses: Mapping[str, str]
    processes: Mapping[str, ChildProcess]
    metrics: Mapping[str, str]
    gateway_url: str | None = None


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
    has_gateway: bool = False,
    is_merged: bool = False,
    settings: Mapping[str, str] | None = None,
    arrangement: Arrangement | None = None,
) -> AsyncIterator[Stack]:
    """Start everything, yield when every process is ready, and stop everything in reverse order at the end.

    ``folder`` exists, and gets the logs and Redis's data. ``engine``: of all three services. ``arrangement``: how the
    services start; by themselves they start together. ``is_merged``: one process serves target and PRM, which
    ``gsi merge`` wrote. ``settings``: environment variables of the processes, which override those that are set here.
    A process that ends is started again. If that is no longer sure, the block is cancelled, and InternalError is raised
    when everything has stopped.
    Raises MisconfiguredError that names the process at fault if one does not start.
    """
    port = redis_port or free_port()
    redis_url = url_of(port)
    arranged = arrangement or Arrangement()
    services = {role: own | arranged.environments[role] for role, own in service_environments(models, engine).items()}
    addresses = {role: services[role][f"GSI_{role.upper()}_LISTEN"] for role in ROLES}
    services = join_merged(services) if is_merged else services
    coordinators = coordinator_environments(redis_url, queue, num_coordinators)
    environments = services | {name: {**own, **arranged.coordinator} for name, own in coordinators.items()}
    environments |= gateway_environments(redis_url, queue, folder) if has_gateway else {}
    shared = {f"GSI_COORDINATOR_{role.upper()}": address for role, address in addresses.items()}
    shared |= find_router(models) | dict(settings or {})
    environments = {name: own | shared for name, own in environments.items()}
    redis = _make_redis(folder, port, report)
    modules = (*SERVICE_MODULES, *COORDINATOR_MODULES)
    forks = ForkServer(modules, folder / "fork_server.log") if may_fork(environments) else None
    processes = {
        name: make_process(name, own, folder / f"{name}.log", report, forks) for name, own in environments.items()
    }
    starts, stops = _order(redis, processes, MERGED_GROUPS if is_merged else arranged.groups)
    for process in processes.values():
        process.start_seconds = arranged.start_seconds or process.start_seconds
    async with forks or nullcontext(), running(starts, stops):
        yield Stack(
            redis_url,
            redis,
            forks,
            addresses=addresses,
            processes=processes,
            metrics={name: _metrics_of(own) for name, own in environments.items()},
            gateway_url=f"http://{environments['gateway']['GSI_GATEWAY_LISTEN']}" if has_gateway else None,
        )


@asynccontextmanager
async def running(starts: Groups, stops: Groups) -> AsyncIterator[None]:
    """Start the processes group by group, and stop them so at the end.

    Raises the block's own error, or the InternalError of the process whose supervision failed.
    """
    try:
        async with asyncio.TaskGroup() as watches:
            try:
                for group in starts:
                    await asyncio.gather(*(process.start() for process in group))
                    for process in group:
                        watches.create_task(process.wait_until_unsupervised())
                yield
            finally:
                for group in stops:
                    await asyncio.gather(*(process.stop() for process in group))
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return
    raise first  # outside of the handler, which would add the group to the error's context


def _order(
    redis: ChildProcess, processes: Mapping[str, ChildProcess], groups: Sequence[Sequence[str]]
) -> tuple[Groups, Groups]:
    """Return the groups in which the processes start and stop; ``groups`` are those of the services.

    Coordinators start with the last of the services.
    """
    *earlier, last = [[processes[name] for name in group] for group in groups]
    services = [process for group in (*earlier, last) for process in group]
    gateways = [process for name, process in processes.items() if name == "gateway"]
    coordinators = [process for process in processes.values() if process not in (*services, *gateways)]
    return [[redis], *earlier, [*last, *coordinators, *gateways]], [gateways, coordinators, services, [redis]]


def _make_redis(folder: Path, port: int, report: Report) -> ChildProcess:
    data = folder / "redis"
    data.mkdir(exist_ok=True)

    def read_line(line: bytes) -> Event | None:
        event = read_server_line(line)
        return {**event, "address": url_of(port)} if event else None

    command = server_command(data, port, Path("/dev/stderr"))
    return ChildProcess("redis", command, {}, folder / "redis.log", report, read_line)


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


def join_merged(services: Mapping[str, Environment]) -> dict[str, Environment]:
    """Return the environments of the draft, and of the process that serves target and PRM."""
    prm = {name: value for name, value in services["prm"].items() if name != "GSI_PRM_METRICS_LISTEN"}
    return {"draft": services["draft"], MERGED: services["target"] | prm}


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


def find_router(models: Path | None) -> Environment:
    """Return the coordinators' setting of the router that lies beside the models; nothing if none does."""
    router = models / "router" / ROUTER_FILE if models else None
    return {"GSI_COORDINATOR_ROUTER": str(router)} if router and router.exists() else {}


def gateway_environments(redis_url: str, queue: str, folder: Path) -> dict[str, Environment]:
    """Return the environment of the gateway. Where clients look by default, it listens if the port is free."""
    port = GATEWAY_PORT if is_free(GATEWAY_PORT) else free_port()
    return {
        "gateway": {
            "GSI_GATEWAY_LISTEN": os.environ.get("GSI_GATEWAY_LISTEN", f"127.0.0.1:{port}"),
            "GSI_GATEWAY_REDIS_URL": redis_url,
            "GSI_GATEWAY_QUEUE": queue,
            "GSI_GATEWAY_METRICS_LISTEN": _free_address(),
            "GSI_GATEWAY_FILES": os.environ.get("GSI_GATEWAY_FILES", str(folder / "files")),
            "GSI_GATEWAY_EVALUATIONS": os.environ.get("GSI_GATEWAY_EVALUATIONS", str(EVALUATIONS.resolve())),
            "GSI_GATEWAY_LOG_FORMAT": "json",
        }
    }


def make_process(
    name: str, environment: Environment, log: Path, report: Report, forks: ForkServer | None
) -> ChildProcess:
    """Make the process of a role or a coordinator, by its name: a fork, or else an interpreter of its own."""
    module = f"{SERVICES}.{name.partition('-')[0]}"
    if forks is None:
        return ChildProcess(name, [sys.executable, "-m", module], environment, log, report)
    return ForkedChild(name, module, environment, log, report, forks)


def may_fork(environments: Mapping[str, Environment]) -> bool:
    """Return whether the services may be forks: vLLM starts processes itself, and a GPU's driver cannot be forked."""
    shared = {name: value for own in environments.values() for name, value in own.items()}
    for role in ROLES:
        given = os.environ | shared
        prefix = f"GSI_{role.upper()}_"
        if (
            given.get(f"{prefix}ENGINE", "transformers") != "transformers"
            or given.get(f"{prefix}DEVICE", "cpu") != "cpu"
        ):
            return False
    return sys.platform == "linux"


def _metrics_of(environment: Environment) -> str:
    return next(value for name, value in environment.items() if name.endswith("_METRICS_LISTEN"))


def _free_address() -> str:
    return f"127.0.0.1:{free_port()}"
