"""Which replica gets a job's call: rendezvous hashing with a bound on load.

A hash of job and replica puts the replicas in an order of the job's own (Thaler and Ravishankar, 1998). The first is
the job's home: it has read the job's prefix. When a replica comes or goes, only the jobs move whose home it is or was.
A replica that has its share of the calls in flight is passed over (Mirrokni, Thorup and Zadimoghaddam, 2018,
"Consistent Hashing with Bounded Loads").
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import lru_cache

BOUND = 1.25  # of the mean number of calls in flight; a lower bound moves more jobs away from their prefixes
MAX_ORDERS = 4096  # kept: more than a coordinator's jobs in flight, at a hundred bytes for each replica


class Choice(StrEnum):
    """Why a call went where it went."""

    HOME = "home"
    LOAD = "load"  # the job's home had its share of the calls in flight
    LOST = "lost"  # the job's home was away, refused the call, or had another model


@lru_cache(maxsize=MAX_ORDERS)
def order_replicas(job: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the replicas in the order of this job, its home first."""

    def weight(address: str) -> bytes:
        return hashlib.blake2b(f"{job}/{address}".encode(), digest_size=8).digest()

    return tuple(sorted(addresses, key=weight, reverse=True))


def choose_replica(
    job: str, addresses: tuple[str, ...], usable: Collection[str], calls: Mapping[str, int]
) -> tuple[str, Choice]:
    """Return the address of the replica for a call, one of ``usable``, and why.

    ``calls``: in flight at each address; 0 if it is missing.
    """
    order = order_replicas(job, addresses)
    in_order = [address for address in order if address in usable]
    most = math.ceil(BOUND * (sum(calls.get(address, 0) for address in in_order) + 1) / len(in_order))
    chosen = next(address for address in in_order if calls.get(address, 0) < most)  # not all are above the mean
    if chosen == order[0]:
        return chosen, Choice.HOME
    return chosen, Choice.LOAD if order[0] in usable else Choice.LOST
