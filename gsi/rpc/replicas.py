"""The replicas of one service: a connection on which calls take turns, and one to each replica for the calls of jobs.

A job is placed on a replica (``rendezvous.py``) and its calls go there, where they find its prefix in the cache. With a
single address there is one connection, which gRPC looks after.
"""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gsi.rpc.connection import RESOLVE_SECONDS, ServiceConnection
from gsi.rpc.rendezvous import Choice, choose_replica, share

log = structlog.get_logger()

# How long a replica that failed or refused a job's call gets no call of that job, while another replica is ready: no
# shorter than the pause before a further attempt, so that this one goes to another replica.
AVOID_SECONDS = 5.0

NoteChoice = Callable[[Choice], None]


class Connect(Protocol):
    """Opens a connection to an address. ``authority``: the name whose replica it is, if the address is not the name."""

    def __call__(self, address: str, authority: str | None = None) -> ServiceConnection: ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """The connection for a call. Where calls take turns, ``choice`` is None and gRPC chooses the replica."""

    connection: ServiceConnection
    address: str = ""
    choice: Choice | None = None
    has_others: bool = False  # that could take the call instead


class Replicas:
    """The replicas behind ``address``: a name, whose addresses are looked up again and again, or a list with commas.

    ``note_choice`` is told of each choice; without it the calls of jobs take turns as well.
    """

    def __init__(self, address: str, connect: Connect, note_choice: NoteChoice | None) -> None:
        members = address.split(",")
        self._address = address
        self._connect = connect
        self._note_choice = note_choice
        self._all = connect(address) if len(members) == 1 else None  # gRPC has no target of several names
        self._each: dict[str, ServiceConnection] = {} if self._all else {member: connect(member) for member in members}
        self._turn = 0
        self._homes: dict[str, str] = {}  # by job, the address of the replica on which it is placed
        self._jobs: Counter[str] = Counter()  # placed, by address
        self._calls: Counter[str] = Counter()  # of jobs, in flight, by address
        self._avoided: dict[str, tuple[str, float]] = {}  # by job: an address, and until which monotonic time
        self._looked_up_at = -RESOLVE_SECONDS
        self._is_looking = False  # a name server that does not answer holds one thread, and not more and more of them
        self._tasks: set[asyncio.Task[None]] = set()  # a look-up, and old connections that are closing

    @property
    def in_turn(self) -> ServiceConnection:
        """The connection for a call of no job."""
        if self._all:
            return self._all
        connections = list(self._each.values())
        ready = [connection for connection in connections if connection.is_ready] or connections
        self._turn += 1
        return ready[self._turn % len(ready)]

    @property
    def ready(self) -> list[str]:
        """The addresses of the replicas that take the calls of jobs now; none where calls take turns."""
        return [address for address, connection in self._each.items() if connection.is_ready]

    @contextmanager
    def choose(self, job: str, tried: Collection[str]) -> Iterator[Chosen]:
        """Choose a replica for a job's call, and count the call until this block ends. ``tried`` have refused it.

        Whoever makes calls of a job calls ``end`` once the job needs its place no more.
        """
        usable = self._usable(job, tried) if job and self._note_choice else []
        if not usable:
            yield Chosen(self.in_turn)
            return
        address, choice = self._choose(job, usable)
        self._calls[address] += 1
        try:
            yield Chosen(self._each[address], address, choice, has_others=len(usable) > 1)
        finally:
            self._calls[address] -= 1
            if not self._calls[address]:
                del self._calls[address]  # or the addresses of a year would stay

    def end(self, job: str) -> None:
        """Forget a job, which makes no more calls."""
        self._avoided.pop(job, None)
        self._leave(job)

    def note(self, chosen: Chosen) -> None:
        """Tell of a choice whose replica takes the call."""
        if self._note_choice and chosen.choice:
            self._note_choice(chosen.choice)

    def avoid(self, job: str, chosen: Chosen) -> None:
        """Send a job's next calls elsewhere for a while: this replica failed or refused a call.

        Other jobs stay: a replica that is away is not ready, and one that is full has room for some.
        """
        if chosen.address:
            self._avoided[job] = (chosen.address, time.monotonic() + AVOID_SECONDS)

    def look_up(self) -> None:
        """Begin to look up the addresses of the name, at most once in ``RESOLVE_SECONDS``; reload certificates.

        gRPC does so when a connection ends, which may be a minute later.
        """
        for connection in self._each.values():
            connection.reopen_if_changed()
        is_due = not self._is_looking and time.monotonic() - self._looked_up_at >= RESOLVE_SECONDS
        if self._all and self._note_choice and is_due:
            self._start(self._look_up())

    def resolve_again(self) -> None:
        """Open new channels, by a look-up of the name, in place of those without a ready replica."""
        if self._all:
            self._all.resolve_again()
            return
        for connection in self._each.values():
            if not connection.is_ready:
                connection.resolve_again()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        connections = [*self._each.values(), *([self._all] if self._all else [])]
        await asyncio.gather(*(connection.close() for connection in connections))

    def _usable(self, job: str, tried: Collection[str]) -> list[str]:
        """Return the ready replicas, without the one that the job avoids if there are others.

        The job's home counts while it connects, for some milliseconds at the end of a connection's age. If it is gone,
        the call fails at once and is made at another one.
        """
        home = self._homes.get(job)
        ready = [
            address
            for address, connection in self._each.items()
            if address not in tried and (connection.is_ready or (address == home and connection.is_connecting))
        ]
        avoided, until = self._avoided.get(job, ("", 0.0))
        if until <= time.monotonic():
            return ready
        return [address for address in ready if address != avoided] or ready

    def _choose(self, job: str, usable: Sequence[str]) -> tuple[str, Choice]:
        """Return the job's home, if that is usable and has room; else the replica that is to have the call, and why.

        A home has room for a call of each of its jobs. Beyond that, jobs with several calls at once have a share.
        """
        home = self._homes.get(job)
        if home is not None and home in usable:
            others = [address for address in usable if address != home]
            if not others or self._calls[home] < max(self._jobs[home], share(self._calls, usable)):
                return home, Choice.HOME
            return choose_replica(job, tuple(self._each), others, self._calls)[0], Choice.LOAD
        self._leave(job)
        address, choice = choose_replica(job, tuple(self._each), usable, self._jobs)
        self._homes[job] = address
        self._jobs[address] += 1
        return address, Choice.LOST if home else choice

    def _leave(self, job: str) -> None:
        """Take a job from its home."""
        home = self._homes.pop(job, None)
        if home is not None:
            self._jobs[home] -= 1
            if not self._jobs[home]:
                del self._jobs[home]

    async def _look_up(self) -> None:
        """Connect to the replicas of now. A single address needs no choice, so it gets no connection of its own."""
        self._looked_up_at, self._is_looking = time.monotonic(), True
        try:
            found = await resolve(self._address)
        finally:
            self._is_looking = False
        if not found:
            return  # unknown at this moment; the connections notice by themselves that a replica is away
        wanted = set(found) if len(found) > 1 else set()
        for address in self._each.keys() - wanted:
            self._start(self._each.pop(address).finish())
        for address in sorted(wanted - self._each.keys()):
            self._each[address] = self._connect(address, self._address)
        _ = self.ready  # which makes new channels connect

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Drop a task. A failure is logged: it costs a choice or a channel, not a call."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("replicas could not be looked up, or left", address=self._address, error=repr(error))


async def resolve(address: str) -> Sequence[str]:
    """Return the addresses of host:port as targets of gRPC; none if they are unknown.

    A host with addresses of both kinds has each replica twice: then those of IPv4 count.
    """
    if "://" in address:
        return []  # a target with a resolver of its own
    host, _, port = address.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        log.debug("a name cannot be looked up", name=host, reason=str(error))
        return []
    old = {f"ipv4:{name[0]}:{port}" for family, *_, name in found if family == socket.AF_INET}
    new = {f"ipv6:[{name[0]}]:{port}" for family, *_, name in found if family == socket.AF_INET6}
    return sorted(old or new)
