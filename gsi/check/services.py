"""Asks the three services: does each serve, what is its model, and does it do its part of one step?"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gsi.check.addresses import ServiceAddresses
from gsi.check.descriptions import look_at_descriptions
from gsi.check.findings import Finding, error, good
from gsi.check.one_step import REFUSED, Services, try_one_step
from gsi.errors import RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc.clients import DraftClient, PrmClient, ServiceClient, TargetClient

POLL_SECONDS = 0.5


@asynccontextmanager
async def open_services(addresses: ServiceAddresses) -> AsyncIterator[Services]:
    """Yield the clients; close them at the end. Raises MisconfiguredError for certificates that cannot be used."""
    files = addresses.certificate_files()
    services = Services(
        DraftClient(addresses.draft, addresses.draft_timeout_seconds, files),
        TargetClient(addresses.target, addresses.target_timeout_seconds, files),
        PrmClient(addresses.prm, addresses.prm_timeout_seconds, files),
    )
    try:
        yield services
    finally:
        await asyncio.gather(*(client.close() for client in services.clients))


async def check_services(addresses: ServiceAddresses, wait_seconds: float = 0) -> AsyncIterator[Finding]:
    """Yield what is found, as it is found. ``wait_seconds``: for services that do not serve yet."""
    async with open_services(addresses) as services:
        infos: dict[str, ModelInfo] = {}
        deadline = time.monotonic() + wait_seconds
        for client in services.clients:
            yield await _ask_for_model(client, infos, deadline)
        for finding in look_at_descriptions(infos):
            yield finding
        async for finding in try_one_step(services, infos):
            yield finding


async def _ask_for_model(client: ServiceClient, infos: dict[str, ModelInfo], deadline: float) -> Finding:
    """Put the model of a service into ``infos``, and say what it is; or say why it does not serve."""
    try:
        await _wait_until_serving(client, deadline)
        info = infos[client.role] = await client.model_info()
    except REFUSED as refusal:
        return error(
            client.role,
            f"no {client.role} serves at {client.address}: {refusal}",
            f"Start it and read its log, or correct GSI_COORDINATOR_{client.role.upper()}.",
        )
    size = f", {info.num_parameters:,} parameters" if info.num_parameters else ""
    return good(client.role, f"{info.model} on {info.engine} {info.engine_version}, {info.dtype}{size}")


async def _wait_until_serving(client: ServiceClient, deadline: float) -> None:
    """Return when the service serves. Raises RetryableError that says why it does not, at the deadline."""
    while True:
        if await client.is_serving():
            return
        if time.monotonic() >= deadline:
            raise RetryableError(client.why_not_serving)
        await asyncio.sleep(POLL_SECONDS)
