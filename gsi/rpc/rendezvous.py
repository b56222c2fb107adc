"""Which replica a job is placed on: rendezvous hashing with a bound on load.

A hash of job and replica puts the replicas in an order of the job's own (Thaler and Ravishankar, 1998), which is the
same for every coordinator. When a replica comes or goes, only the jobs move whose first replica it is or was. A replica
that has its share of the load is passed over (Mirrokni, Thorup and Zadimoghaddam, 2018, "Consistent Hashing with
Bounded Loads").
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import lru_cache

BOUND = 1.25  # of the mean load; a lower bound would place more jobs away from their first replica
MAX_ORDERS = 4096  # kept: more than a coordinator's jobs in flight, at a hundred bytes for each replica


class Choice(StrEnum):
    """Why a call went where it went. A job's home is the replica on which it is placed."""

    HOME = "home"
    LOAD = "load"  # the job's first replica, or its home, had its share
    LOST = "lost"  # the job's first replica, or its home, was away, refused the call, or had another model


@lru_cache(maxsize=MAX_ORDERS)
def order_replicas(job: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the replicas in the order of this job."""

    def weight(address: str) -> bytes:
        return hashlib.blake2b(f"{job}/{address}".encode(), digest_size=8).digest()

    return tuple(sorted(addresses, key=weight, reverse=True))


def share(load: Mapping[str, int], usable: Collection[str]) -> int:
    """Return the most that one of the replicas may have once one more is added to their load."""
    return math.ceil(BOUND * (sum(load.get(address, 0) for address in usable) + 1) / len(usable))


def choose_replica(
    job: str, addresses: tuple[str, ...], usable: Collection[str], load: Mapping[str, int]
) -> tuple[str, Choice]:
    """Return the address of one of the ``usable`` replicas, and why it was chosen.

    ``load``: jobs or calls at each address; 0 if it is missing.
    """
    order = order_replicas(job, addresses)
    most = share(load, usable)
    chosen = next(each for each in order if each in usable and load.get(each, 0) < most)  # not all are above the mean
    if chosen == order[0]:
        return chosen, Choice.HOME
    return chosen, Choice.LOAD if order[0] in usable else Choice.LOST
