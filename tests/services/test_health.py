"""What processes say of their health, on the port that probes ask in plain text."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gsi.errors import InternalError
from gsi.local.embedded_redis import free_port
from gsi.rpc.health import LIVENESS
from gsi.rpc.server import serve
from gsi.runtime.settings import EXIT_BAD_SETTINGS, ServiceSettings
from gsi.v1 import candidates_pb2, draft_pb2_grpc
from services.draft import servicer as draft_servicer
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.runtime.test_settings import GOOD, start
from tests.services.conftest import ROLES, Serving, serving
from tests.services.test_compatibility import DRAFT, PRM, TARGET
from tests.services.test_model_services import EndlessEngine, already, status

SERVICE = draft_servicer.SERVICE


@asynccontextmanager
async def draft_service(engine: Any, may_load: asyncio.Event | None = None, **settings: Any) -> AsyncIterator[Serving]:
    async def load() -> Any:
        if may_load is not None:
            await may_load.wait()
        return engine

    async with serving(SERVICE, draft_servicer.add_to_server, load, **settings) as server:
        yield server


async def states(address: str) -> tuple[str, str]:
    """Return liveness and readiness."""
    return await status(address, LIVENESS), await status(address)


async def test_a_service_tells_a_probe_without_tls_that_it_lives_and_when_it_is_ready(tmp_path: Path) -> None:
    """A loading service is alive and not ready; the port has the health service alone."""
    probed, may_load = f"127.0.0.1:{free_port()}", asyncio.Event()
    own = Authority(tmp_path).issue("draft").settings()
    async with draft_service(EndlessEngine(), may_load, health_listen=probed, **own):
        await wait_until(lambda: _is(probed, LIVENESS, "SERVING"), "it lives")
        assert await states(probed) == ("SERVING", "NOT_SERVING")
        may_load.set()
        await wait_until(lambda: _is(probed, "", "SERVING"), "it is ready")
        assert await status(probed, SERVICE) == "SERVING"
        async with grpc.aio.insecure_channel(probed) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await _stub(channel).GetModelInfo(candidates_pb2.GetModelInfoRequest())
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await status(probed, "gsi.v1.Nonsense")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def _is(address: str, name: str, expected: str) -> bool:
    try:
        return await status(address, name) == expected
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return False


def _stub(channel: grpc.aio.Channel) -> Any:
    return draft_pb2_grpc.DraftServiceStub(channel)


async def test_a_service_is_not_ready_before_it_refuses_calls() -> None:
    """In the pause after SIGTERM it takes calls, then it finishes the calls in flight; it is alive all the time."""
    probed, engine = f"127.0.0.1:{free_port()}", EndlessEngine()
    times: dict[str, Any] = {"drain_pause_seconds": 1.0, "grace_seconds": 1.0}
    async with draft_service(engine, health_listen=probed, **times) as server:
        await wait_until(lambda: _is(probed, "", "SERVING"), "it is ready")
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = _stub(channel).Propose(_request())
            await call.read()
            server.stop.set()
            await wait_until(lambda: _is(probed, "", "NOT_SERVING"), "it is not ready any more")
            info = await _stub(channel).GetModelInfo(candidates_pb2.GetModelInfoRequest())
            assert info.model == DRAFT.model

            async def refuses() -> bool:
                try:
                    await _stub(channel).GetModelInfo(candidates_pb2.GetModelInfoRequest())
                except grpc.aio.AioRpcError as error:
                    return error.details() == "the service is shutting down"
                return False

            await wait_until(refuses, "the pause is over")
            assert engine.is_working
            assert await states(probed) == ("SERVING", "NOT_SERVING")


def _request() -> candidates_pb2.ProposeRequest:
    sampling = candidates_pb2.SamplingParams(
        temperature=0.7, top_p=1, max_step_tokens=8, likelihood=candidates_pb2.LIKELIHOOD_SAMPLING
    )
    return candidates_pb2.ProposeRequest(prefix_token_ids=[1], n=1, sampling=sampling)


async def watch_status(address: str, name: str) -> list[str]:
    """Return every status of a name until the server ends."""
    told: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        call = stub.Watch(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
        with suppress(grpc.aio.AioRpcError):
            while (answer := await call.read()) is not grpc.aio.EOF:
                told.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return told


async def test_a_service_whose_engine_died_does_not_live() -> None:
    """A probe learns it while the last answers leave."""
    probed, engine = f"127.0.0.1:{free_port()}", EndlessEngine()
    settings = ServiceSettings(listen=f"127.0.0.1:{free_port()}", health_listen=probed, model="shipped")

    load = partial(already, engine)
    service = asyncio.create_task(serve(SERVICE, settings, load, draft_servicer.add_to_server, asyncio.Event()))
    await wait_until(lambda: _is(probed, "", "SERVING"), "it is ready")
    watching = asyncio.create_task(watch_status(probed, LIVENESS))
    await asyncio.sleep(0.2)
    engine.death.set()
    with pytest.raises(InternalError, match="it was killed"):
        await service
    assert await watching == ["SERVING", "NOT_SERVING"]


@asynccontextmanager
async def coordinator(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a coordinator's process; kill it if it is still running at the end."""
    given = {f"GSI_COORDINATOR_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.coordinator"), env=os.environ | given, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_coordinator_lives_while_it_waits_and_is_ready_once_all_is_there(redis_url: str, queue: str) -> None:
    """It waits for Redis and three models; on SIGTERM it first says that it is not ready."""
    probed, ports = f"127.0.0.1:{free_port()}", {role: free_port() for role in ROLES}
    addresses = {role: f"127.0.0.1:{port}" for role, port in ports.items()}
    async with coordinator(redis_url=redis_url, queue=queue, health_listen=probed, **addresses) as process:
        await wait_until(lambda: _is(probed, LIVENESS, "SERVING"), "it lives")
        assert await status(probed) == "NOT_SERVING"
        async with AsyncExitStack() as stack:
            for role, info in {"draft": DRAFT, "target": TARGET, "prm": PRM}.items():
                servicer, engine = ROLES[role][0], EndlessEngine(info=info)
                service = serving(servicer.SERVICE, servicer.add_to_server, partial(already, engine), addresses[role])
                await stack.enter_async_context(service)
            await wait_until(lambda: _is(probed, "", "SERVING"), "it is connected")
            watching = asyncio.create_task(watch_status(probed, ""))
            await asyncio.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        assert await watching == ["SERVING", "NOT_SERVING"]


async def test_an_address_for_probes_that_cannot_be_had_ends_the_start() -> None:
    """The error names the address, as for the address of calls."""
    probed = f"127.0.0.1:{free_port()}"
    async with draft_service(EndlessEngine(), health_listen=probed):
        await wait_until(lambda: _is(probed, "", "SERVING"), "it is ready")
        settings = ServiceSettings(listen=f"127.0.0.1:{free_port()}", health_listen=probed, model="shipped")
        load = partial(already, EndlessEngine())
        with pytest.raises(OSError, match=f"cannot listen on {probed}"):
            await serve(SERVICE, settings, load, draft_servicer.add_to_server, asyncio.Event())
        async with coordinator(
            health_listen=probed, draft="127.0.0.1:1", target="127.0.0.1:1", prm="127.0.0.1:1"
        ) as late:
            assert await late.wait() == 1


def test_a_malformed_address_for_probes_is_named() -> None:
    """The process exits with the code of a bad setting."""
    refused = start("services.draft", GOOD | {"GSI_DRAFT_HEALTH_LISTEN": "50052"})
    assert refused.returncode == EXIT_BAD_SETTINGS
    assert "GSI_DRAFT_HEALTH_LISTEN" in refused.stderr
