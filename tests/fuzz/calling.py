"""Makes the calls of an attack, and counts how they end."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc

from gsi.rpc.errors import LOST_WHILE_WRITING
from tests.fuzz.attacks import Attack, Ending

# What a stranger may be answered. Of the contract are left out: UNAVAILABLE, since the services serve all the time,
# and INTERNAL, which is a fault of ours.
ALLOWED = frozenset({"OK", "INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"})
CLIENT_LOST = "LOST_WHILE_WRITING"  # grpc.aio's client loses the status if the server answers while it writes

# What grpc.aio raises in a client whose call ends while it writes, beside the error of the call.
CALL_HAS_ENDED = (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError, asyncio.CancelledError)

HALF_OPEN_SECONDS = 0.05
DEADLINE_SECONDS = 0.01
LONGEST_SECONDS = 20.0  # also for what grpc.aio forgets to cancel, see CLIENT_LOST
MAX_AT_ONCE = 48  # below the share of one address: the canary calls from the same


class Caller:
    """Calls the services at ``addresses`` (by role); ``statuses`` counts the ends of the calls by their names."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.statuses: Counter[str] = Counter()
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._channels = {role: grpc.aio.insecure_channel(address) for role, address in addresses.items()}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def make(self, attacks: Sequence[Attack]) -> None:
        """Make calls side by side; return when all have ended."""
        await asyncio.gather(*(self._make_one(attack) for attack in attacks))

    async def _make_one(self, attack: Attack) -> None:
        async with self._places:
            method: Any = self._channels[attack.role].stream_stream(attack.path)
            seconds = DEADLINE_SECONDS if attack.ending is Ending.DEADLINE else LONGEST_SECONDS
            call = method(timeout=seconds)
            talking = asyncio.create_task(_talk(call, attack))
            if attack.ending is Ending.HALF_OPEN:
                await asyncio.wait({talking}, timeout=HALF_OPEN_SECONDS)
                call.cancel()
            code, is_lost = await call.code(), await call.details() == LOST_WHILE_WRITING
            talking.cancel()  # grpc.aio may forget a write in a call that was cancelled
            await asyncio.wait({talking})
            self.statuses[CLIENT_LOST if is_lost else code.name] += 1


async def _talk(call: Any, attack: Attack) -> None:
    """Send the messages and read the answers. What the call ends with, the call itself tells."""
    with suppress(*CALL_HAS_ENDED):
        for message in attack.messages if attack.ending is not Ending.SILENT else ():
            await call.write(message)
        if attack.ending is Ending.ABANDON:
            call.cancel()
        if attack.ending in (Ending.CLOSE, Ending.DEADLINE):
            await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
