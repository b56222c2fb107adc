"""The main function of a model service: settings, logging, metrics, signals, then ``serve``, or ``follow``."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields
from functools import partial

import grpc
import structlog

from gsi.engines.base import EngineSettings, Follower
from gsi.engines.on_vllm.nodes import node_rank
from gsi.errors import InternalError, MisconfiguredError
from gsi.rpc.following import follow
from gsi.rpc.server import E, Loadable, serve
from gsi.runtime.metrics import serve_metrics
from gsi.runtime.process_log import configure_logging
from gsi.runtime.settings import ServiceSettings, load_settings
from gsi.runtime.signals import stop_on_signals
from gsi.runtime.tracing import tracing

log = structlog.get_logger()

EXIT_ENGINE_DIED = 70  # EX_SOFTWARE of sysexits.h


def run_service(
    role: str,
    grpc_service: str,
    settings_kind: type[ServiceSettings],
    load: Callable[[str, EngineSettings], Awaitable[E]],
    load_follower: Callable[[str, EngineSettings], Awaitable[Follower]],
    add_servicer: Callable[[Loadable[E], grpc.aio.Server], None],
) -> None:
    """Run one model service until it is told to stop; exit 1 if it cannot start and 70 if its engine died.

    Told to be another node of a vLLM engine than the first, it follows that one and serves nothing.
    """
    settings = load_settings(settings_kind)
    configure_logging(role, settings.log_format, settings.log_level)
    tracing.start(role, settings.traces_endpoint, settings.traces_sample_ratio)
    engine_settings = EngineSettings(**settings.model_dump(include={field.name for field in fields(EngineSettings)}))

    async def main() -> None:
        stop = stop_on_signals()
        serve_metrics(settings.metrics_listen)
        rank = node_rank(settings.engine_args) if settings.engine == "vllm" else 0
        if rank > 0:
            await follow(settings, partial(load_follower, settings.engine, engine_settings), rank, stop)
        else:
            await serve(grpc_service, settings, load_engine, add_servicer, stop)

    async def load_engine() -> E:
        engine = await load(settings.engine, engine_settings)
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not walk it while calls are served, or at the end
        return engine

    try:
        asyncio.run(main())
    except (OSError, ValueError, RuntimeError, MisconfiguredError) as error:  # address, checkpoint, engine, device
        log.error("cannot start", error=str(error))
        sys.exit(1)
    except InternalError as error:
        log.error("the engine died; this process is to be started again", error=str(error))
        sys.exit(EXIT_ENGINE_DIED)
    finally:
        tracing.stop()
