"""The main function of a model service: settings, logging, metrics, signals, then ``serve``, or ``follow``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields
from functools import partial
from typing import NoReturn

import grpc
import structlog

from gsi.engines.base import E, EngineSettings
from gsi.engines.on_vllm.nodes import read_node_rank
from gsi.engines.registry import EngineTable
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError
from gsi.rpc.following import follow
from gsi.rpc.server import Loadable, serve
from gsi.runtime.event_loop import run
from gsi.runtime.metrics import serve_metrics
from gsi.runtime.process_end import end_at_once
from gsi.runtime.process_log import configure_logging
from gsi.runtime.settings import ServiceSettings, load_settings
from gsi.runtime.signals import stop_on_signals
from gsi.runtime.tracing import tracing

log = structlog.get_logger()

EXIT_CANNOT_START = 1
EXIT_ENGINE_DIED = 70  # EX_SOFTWARE of sysexits.h


def run_service(
    role: str,
    grpc_service: str,
    settings_kind: type[ServiceSettings],
    engines: EngineTable[E],
    add_servicer: Callable[[Loadable[E], grpc.aio.Server], None],
    try_out: Callable[[E], Awaitable[None]] | None = None,
) -> NoReturn:
    """Run one model service until it is told to stop. Exits with 1 if it cannot start, with 70 if its engine died.

    ``try_out`` asks a loaded engine for what each job will ask; a service whose engine refuses that does not start.
    A process whose engine arguments make it another node than node 0 follows node 0 and serves nothing.
    """
    settings = load_settings(settings_kind)
    own = engine_settings(role, settings)

    async def serve_or_follow(stop: asyncio.Event) -> None:
        rank = read_node_rank(settings.engine_args) if settings.engine == "vllm" else 0
        if rank > 0:
            await follow(settings, partial(engines.follow, settings.engine, own), rank, stop)
        else:
            load = partial(engines.load, settings.engine, own)
            await serve(grpc_service, settings, partial(load_and_try, load, try_out), add_servicer, stop)

    run_process(role, settings, serve_or_follow)


def engine_settings(role: str, settings: ServiceSettings) -> EngineSettings:
    """Return what the engine of a service needs to load its model."""
    names = {field.name for field in fields(EngineSettings)}
    return EngineSettings(**settings.model_dump(include=names), role=role)


def run_process(role: str, settings: ServiceSettings, work: Callable[[asyncio.Event], Awaitable[None]]) -> NoReturn:
    """Run ``work``, which gets the event of a stop, as a process with a log, traces and metrics; then exit.

    Exits with 1 if it cannot start, with 70 if its engine died.
    """
    configure_logging(role, settings.log_format, settings.log_level)
    tracing.start(role, settings.traces_endpoint, settings.traces_sample_ratio)
    try:
        code = _run_until_stopped(settings, work)
    finally:
        tracing.stop()
    if settings.engine == "vllm":  # it frees shared memory, and ends its processes, in handlers of atexit
        sys.exit(code)
    end_at_once(code)


def _run_until_stopped(settings: ServiceSettings, work: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Work until a signal comes; return the exit code."""

    async def main() -> None:
        stop = stop_on_signals()
        serve_metrics(settings.metrics_listen)
        await work(stop)

    try:
        run(main())
    except (OSError, ValueError, RuntimeError, MisconfiguredError) as error:  # address, checkpoint, engine, device
        log.error("cannot start", error=str(error))
        return EXIT_CANNOT_START
    except InternalError as error:
        log.error("the engine died; this process is to be started again", error=str(error))
        return EXIT_ENGINE_DIED
    return 0


async def load_and_try(load: Callable[[], Awaitable[E]], try_out: Callable[[E], Awaitable[None]] | None) -> E:
    """Return the loaded engine. Raises MisconfiguredError if it refuses what each job will ask of it."""
    engine = await load()
    try:
        if try_out is not None:
            await try_out(engine)
    except (InvalidRequestError, InternalError) as error:
        engine.close()
        raise MisconfiguredError(f"{engine.info.model} cannot serve: {error}") from error
    except BaseException:
        engine.close()
        raise
    return engine
