"""Why the jobs of a queue do not move: the queue is paused, or no coordinator reads it."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gsi.jobs.keys import GROUP, Keys
from gsi.jobs.reader import JobReader

ASKING_MS = 3000  # a coordinator with a free slot asks for entries every half second; a busy machine may delay it
RENEWING_MS = 20_000  # a coordinator without a free slot renews its leases, every 7.5 s by default


async def find_obstacle(redis: Redis, keys: Keys) -> str:
    """Return in a sentence why jobs that wait, or were taken, do not move; "" if there is no such reason or job.

    A coordinator that ended is noticed after 3 s if it held no job, else after 20 s. Creates nothing.
    """
    client: Any = redis  # redis-py's stubs type every answer as a union
    num_jobs = sum([await client.xlen(lane) for lane in keys.lanes])
    if not num_jobs:
        return ""
    consumers = await _list_consumers(client, keys)
    num_taken = sum(each["pending"] for each in consumers)
    if num_jobs > num_taken and (await JobReader(redis, keys).config()).is_paused:
        return f"queue {keys.queue} is paused: its jobs wait until it is resumed (gsi queue resume)"
    if not any(each["idle"] < (RENEWING_MS if each["pending"] else ASKING_MS) for each in consumers):
        return f"no coordinator reads queue {keys.queue}: its jobs wait for one (gsi up, gsi serve coordinator)"
    return ""


async def _list_consumers(client: Any, keys: Keys) -> list[dict[str, Any]]:
    """Return the consumers of each lane; none where nobody has ever read."""
    found = []
    for lane in keys.lanes:
        try:
            found += await client.xinfo_consumers(lane, GROUP)
        except ResponseError:  # no such key, or no such group
            continue
    return found
