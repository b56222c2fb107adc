"""Whether a service serves is answered, whatever becomes of the channel that asks."""

import asyncio
from typing import Any

import pytest

from gsi.rpc.clients import DraftClient
from gsi.rpc.connection import ServiceConnection


class ReplacedChannel:
    """A stub on a channel that is closed during the call: gRPC raises CancelledError, though nobody cancelled."""

    async def Check(self, request: Any, timeout: float) -> Any:
        raise asyncio.CancelledError


class SilentChannel:
    """A stub whose call takes for ever."""

    async def Check(self, request: Any, timeout: float) -> Any:
        await asyncio.Event().wait()


@pytest.fixture
async def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ServiceConnection, "health", property(lambda _: request.param()))
    client = DraftClient("127.0.0.1:1", 1.0, None)
    yield client
    await client.close()


@pytest.mark.parametrize("client", [ReplacedChannel], indirect=True)
async def test_a_service_whose_channel_was_replaced_does_not_serve_yet(client: DraftClient) -> None:
    """The next question goes over the new channel; the task that asks lives on."""
    assert not await client.is_serving()
    assert "replaced" in client.why_not_serving


@pytest.mark.parametrize("client", [SilentChannel], indirect=True)
async def test_a_task_that_is_cancelled_while_it_asks_ends(client: DraftClient) -> None:
    """Its cancellation is not taken for the channel's."""
    asking = asyncio.create_task(client.is_serving())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
