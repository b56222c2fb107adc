"""A proxy between coordinators and Redis that delays or drops single commands and single replies.

It reads RESP just well enough to tell where a value ends, and forwards each value's bytes unchanged. redis-py's own
parser does not fit: it returns values, not bytes, and raises for some of the errors that a proxy must pass on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from hashlib import sha1
from random import Random

from gsi.jobs.scripts.loader import FOLDER, read_script
from tests.chaos.proxy import Ends, LoopbackProxy, reset

LENGTHS = b"$=!"  # types of RESP whose first line tells a number of bytes
ITEMS = {b"*": 1, b"~": 1, b">": 1, b"%": 2}  # whose first line tells a number of values, or of pairs
SCRIPT_OF_SHA = {
    sha1(read_script(file.name.removesuffix(".lua")).encode()).hexdigest().encode(): file.name.removesuffix(".lua")
    for file in FOLDER.iterdir()
    if file.name.endswith(".lua")
}


class CommandFault(StrEnum):
    """What happens to one command or to its reply."""

    NONE = "none"
    COMMAND_DELAYED = "command delayed"
    COMMAND_DROPPED = "command dropped"  # it never reaches the server, and the connection is cut
    COMMAND_LATE = "command late"  # it reaches the server when its sender has given it up, and has sent it again
    REPLY_DELAYED = "reply delayed"
    REPLY_DROPPED = "reply dropped"  # the server did it, and the connection is cut
    REPLY_HELD = "reply held"  # the server did it, and nothing is heard of it until the sender has given up


Rule = Callable[[str], CommandFault]  # takes the name of a command, or of the script that it runs


class SeededRule:
    """Draws a fault for each command. The k-th command of a name meets the same fault in every run with this seed.

    ``rates``: how likely each fault is, of commands that run a script. All others meet a tenth of that.
    """

    def __init__(self, seed: str, rates: Mapping[CommandFault, float]) -> None:
        self._seed = seed
        self._rates = rates
        self._randoms: dict[str, Random] = {}

    def __call__(self, name: str) -> CommandFault:
        random = self._randoms.setdefault(name, Random(f"{self._seed}/{name}"))
        left = random.random() * (1 if name in SCRIPT_OF_SHA.values() else 10)
        for fault, rate in self._rates.items():
            left -= rate
            if left < 0:
                return fault
        return CommandFault.NONE


def no_fault(name: str) -> CommandFault:
    """Let every command pass: a ``Rule``."""
    return CommandFault.NONE


class RedisProxy(LoopbackProxy):
    """Forwards a Redis. ``rule`` may be replaced at any time; ``met`` counts the faults by command.

    A delay is up to ``delay_seconds``. ``hold_seconds`` must be longer than the client waits for a reply. Commands of
    one connection pass one after the other, so that their order stays; a cut loses those behind it, too.
    """

    def __init__(self, server: str, delay_seconds: float, hold_seconds: float, rule: Rule = no_fault) -> None:
        super().__init__(server)
        self.rule = rule
        self.met: Counter[tuple[str, CommandFault]] = Counter()
        self._random = Random(server)  # of how long a delay is
        self._delay_seconds = delay_seconds
        self._hold_seconds = hold_seconds

    async def forward(self, client: Ends, upstream: Ends) -> None:
        """Forward command by command."""
        while True:
            command = await read_value(client[0])
            name = name_of(command)
            fault = self.rule(name)
            self.met[name, fault] += 1
            await self._wait(fault, CommandFault.COMMAND_DELAYED, CommandFault.COMMAND_LATE)
            if fault is CommandFault.COMMAND_DROPPED:
                break
            upstream[1].write(command)
            await upstream[1].drain()
            reply = await read_value(upstream[0])
            await self._wait(fault, CommandFault.REPLY_DELAYED, CommandFault.REPLY_HELD)
            if fault in {CommandFault.COMMAND_LATE, CommandFault.REPLY_DROPPED, CommandFault.REPLY_HELD}:
                break
            client[1].write(reply)
            await client[1].drain()
        reset(client[1])

    async def _wait(self, fault: CommandFault, delays: CommandFault, holds: CommandFault) -> None:
        if fault is delays:
            await asyncio.sleep(self._random.uniform(0, self._delay_seconds))
        elif fault is holds:
            await asyncio.sleep(self._hold_seconds)


async def read_value(reader: asyncio.StreamReader) -> bytes:
    """Return the bytes of one value of RESP 2 or 3. Raises EOFError at the end of the stream."""
    line = await reader.readuntil(b"\r\n")
    kind = line[:1]
    if kind in LENGTHS and not line.startswith(b"$-"):  # $-1: no value
        return line + await reader.readexactly(int(line[1:]) + 2)
    if kind in ITEMS and not line.startswith(b"*-"):
        num_values = ITEMS[kind] * int(line[1:])
        line += b"".join([await read_value(reader) for _ in range(num_values)])
    return line + await read_value(reader) if kind == b">" else line  # a push comes before a reply


def name_of(command: bytes) -> str:
    """Return the name of the script that a command runs, or the command's own name in capitals."""
    words = command.split(b"\r\n", 5)[2::2]  # between them stand their lengths
    name = words[0].decode().upper()
    return SCRIPT_OF_SHA.get(words[1], name) if name == "EVALSHA" else name
