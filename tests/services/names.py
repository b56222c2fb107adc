"""A DNS server for tests: one name whose addresses a test changes, as Kubernetes does those of a headless Service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset

NAME = "draft.test"
TTL_SECONDS = 5  # as CoreDNS says of a headless Service


class Names(asyncio.DatagramProtocol):
    """Answers every question for A records with ``addresses``."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.num_questions = 0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        for asked in question.question:
            self.num_questions += 1
            if asked.rdtype == dns.rdatatype.A and self.addresses:
                answer.answer.append(dns.rrset.from_text_list(asked.name, TTL_SECONDS, "IN", "A", self.addresses))
        self._transport.sendto(answer.to_wire(), addr)

    def target(self, port: int, name: str = NAME) -> str:
        """Return a gRPC target that asks this server, and not that of the machine, for the name."""
        host, own_port = self._transport.get_extra_info("sockname")
        return f"dns://{host}:{own_port}/{name}:{port}"


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[Names]:
    """Answer on a free port of loopback."""
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    names.addresses += addresses
    try:
        yield names
    finally:
        transport.close()
        await asyncio.sleep(0)  # it closes its socket in the loop's next round
