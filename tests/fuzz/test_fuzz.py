"""The short form of ``make fuzz``: strangers harm no service, and nobody who calls it meanwhile."""

from contextlib import AsyncExitStack
from functools import partial

from tests.conftest import wait_until
from tests.fuzz.calling import ALLOWED, CLIENT_LOST, Caller
from tests.fuzz.campaign import draw
from tests.services.conftest import ROLES, client_of
from tests.services.test_service_metrics import shows


async def test_strangers_are_answered_by_the_contract_and_leave_nothing_behind() -> None:
    """Any bytes, numbers, order of messages and end of a call; afterwards none is in flight, and all services serve."""
    async with AsyncExitStack() as exits:
        clients = {role: await exits.enter_async_context(client_of(role)) for role in ROLES}
        caller = Caller({role: client.address for role, client in clients.items()})
        exits.push_async_callback(caller.close)
        await caller.make(draw(size=60, number=1))
        assert set(caller.statuses) <= ALLOWED | {CLIENT_LOST}
        assert {"OK", "INVALID_ARGUMENT", "CANCELLED"} <= set(caller.statuses)
        for role, client in clients.items():
            service = f"{role.capitalize()}Service"
            await wait_until(partial(shows, "gsi_rpcs_in_flight", 0, service), f"no call is left at {role}")
            assert (await client.model_info()).engine == "transformers"
