"""Start the gateway: ``python -m services.gateway``."""

import asyncio
import secrets
import socket
import ssl
import sys
from contextlib import AsyncExitStack, nullcontext

from gsi.runtime.extras import imports_of

with imports_of("gateway", "gateway"):
    import structlog
    import uvicorn
    from fastapi import FastAPI

    from gsi.client.gateway import open_api_keys, open_store
    from gsi.client.rates import open_rates
    from gsi.errors import MisconfiguredError
    from gsi.jobs.connection import is_exposed, mask_url
    from gsi.jobs.redis_metrics import REDIS_REACHABLE
    from gsi.rpc.health import Health
    from gsi.runtime.event_loop import run
    from gsi.runtime.metrics import serve_metrics
    from gsi.runtime.process_log import configure_logging
    from gsi.runtime.settings import load_settings
    from gsi.runtime.signals import stop_on_signals
    from gsi.runtime.tracing import tracing
    from services.gateway.app import Parts, make_app
    from services.gateway.batches.batches import Batches, working
    from services.gateway.certificate import follow_certificate
    from services.gateway.files import Files
    from services.gateway.gateway import Gateway
    from services.gateway.gsi_api.evaluations import Evaluations
    from services.gateway.guard import Guard
    from services.gateway.ledger import Ledger, settling
    from services.gateway.presets import load_presets
    from services.gateway.queues import open_queues
    from services.gateway.responses.conversations import Conversations
    from services.gateway.responses.responses import Responses
    from services.gateway.settings import GatewaySettings

log = structlog.get_logger()

BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn, without its signal handlers: the process has its own. ``has_started`` is set once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]  # a context manager, too
        return nullcontext()


async def serve(settings: GatewaySettings) -> None:
    """Answer requests until SIGTERM or SIGINT; then let open ones finish, within the grace period.

    Raises MisconfiguredError or OSError for what keeps the gateway from starting.
    """
    stop, health = stop_on_signals(), Health()
    presets = load_presets(settings.presets, settings.queue)
    serve_metrics(settings.metrics_listen)
    await health.start(settings.health_listen)
    url, access = settings.redis_url, settings.redis_access
    async with AsyncExitStack() as stack:
        stack.push_async_callback(health.stop)
        queues = await stack.enter_async_context(open_queues(settings, (each.queue for each in presets.values())))
        if is_exposed(url):
            log.warning("redis is plain text: others on the network can read and change jobs", url=mask_url(url))
        keys = await stack.enter_async_context(open_api_keys(url, access)) if settings.keys else None
        rates = await stack.enter_async_context(open_rates(url, access)) if settings.keys else None
        store = await stack.enter_async_context(open_store(url, secrets.token_hex(6), access))
        guard = Guard(presets, keys, rates)
        ledger = Ledger(guard, queues, store.accounts if settings.keys else None)
        await stack.enter_async_context(settling(ledger))
        gateway = Gateway(settings, queues, guard, ledger)
        stack.push_async_callback(gateway.finish)
        REDIS_REACHABLE.set_function(lambda: gateway.can_read_queues)
        files = Files(settings, store.files)
        batches = Batches(gateway, files, store) if files.is_on else None
        responses = Responses(gateway, store.responses, Conversations(store.conversations))
        parts = Parts(gateway, responses, files, batches, Evaluations(settings.evaluations))
        app = make_app(parts, settings)
        if batches is not None:
            await stack.enter_async_context(working(batches))
        await _serve_http(settings, app, gateway, health, stop)
    log.info("stopped")


async def _serve_http(
    settings: GatewaySettings, app: FastAPI, gateway: Gateway, health: Health, stop: asyncio.Event
) -> None:
    listening = listen(settings.listen)
    config = _configure(settings, app)
    config.load()
    server = Server(config)
    gateway.count_connections = lambda: len(server.server_state.connections)
    serving, stopping = asyncio.create_task(server.serve(sockets=[listening])), asyncio.create_task(stop.wait())
    beside = [stopping, asyncio.create_task(_report_ready(settings, server, gateway, health, listening))]
    if config.ssl and settings.tls_cert and settings.tls_key:
        beside.append(asyncio.create_task(follow_certificate(config.ssl, settings.tls_cert, settings.tls_key)))
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in beside:
        task.cancel()
    gateway.is_draining = True
    await health.set_ready(is_ready=False)
    server.should_exit = True
    await serving


async def _report_ready(
    settings: GatewaySettings, server: Server, gateway: Gateway, health: Health, listening: socket.socket
) -> None:
    await server.has_started.wait()
    await gateway.wait_for_redis()
    await health.set_ready(is_ready=True)
    host, port = settings.listen.rpartition(":")[0], listening.getsockname()[1]
    scheme = "https" if settings.tls_cert else "http"
    log.info("ready", address=f"{scheme}://{host}:{port}", keys=settings.keys)


def _configure(settings: GatewaySettings, app: FastAPI) -> uvicorn.Config:
    chain, key, authority = settings.tls_cert, settings.tls_key, settings.tls_ca
    return uvicorn.Config(
        app,
        http="h11",  # which has a limit on headers
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=int(settings.grace_seconds),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=chain,
        ssl_keyfile=key,
        ssl_ca_certs=str(authority) if authority else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if authority else ssl.CERT_NONE,
    )


def listen(address: str) -> socket.socket:
    """Listen on host:port. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With a protocol, asyncio sends without delay (TCP_NODELAY); without, each answer takes 40 ms more.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, int(port)))
    listening.listen(BACKLOG)
    return listening


def main() -> None:
    """Run the gateway; exit 1 if it cannot start."""
    settings = load_settings(GatewaySettings)
    configure_logging("gateway", settings.log_format, settings.log_level)
    tracing.start("gateway", settings.traces_endpoint, settings.traces_sample_ratio)
    try:
        run(serve(settings))
    except (MisconfiguredError, OSError) as error:  # presets, addresses, the URL of Redis
        log.error("cannot start", error=str(error))
        sys.exit(1)
    finally:
        tracing.stop()


if __name__ == "__main__":
    main()
