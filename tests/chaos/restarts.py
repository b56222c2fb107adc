"""Row 3: the server killed while jobs are submitted and run, and started again from its append-only file."""

import asyncio
from random import Random

from redis.exceptions import RedisError

from tests.chaos.harness import POLL_SECONDS, Chaos, Queue, check_results
from tests.chaos.outcome import Outcome
from tests.chaos.sizes import Size

AWAY_SECONDS = (0.5, 4.0)  # shorter and longer than what clients try by themselves


async def restarts(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """No acknowledged submission is lost, and the coordinators go on by themselves."""
    outcome = Outcome()
    references = await chaos.references()
    async with chaos.queue("restarts") as queue:
        pids = {name: chaos.processes[name].pid for name in chaos.coordinators()}
        acknowledged: list[str] = []
        submitting = asyncio.create_task(_submit(queue, size.redis_jobs, acknowledged))
        for number in range(1, size.redis_kills + 1):
            while len(acknowledged) < size.redis_jobs * number / (size.redis_kills + 1):
                await asyncio.sleep(POLL_SECONDS)
            chaos.server.kill()
            before = list(acknowledged)
            await asyncio.sleep(random.uniform(*AWAY_SECONDS))
            await asyncio.to_thread(chaos.server.start)
            missing = [job_id for job_id in before if not await queue.redis.exists(queue.keys.record(job_id))]
            outcome.lost += len(missing)
            outcome.expect(not missing, f"acknowledged, and lost by the server: {missing}")
            outcome.kills += 1
        await submitting
        await check_results(queue, references[: size.redis_jobs], outcome)
        still = {name: chaos.processes[name].pid for name in chaos.coordinators()}
        outcome.expect(still == pids, "a coordinator ended because the server was away")
    return outcome


async def _submit(queue: Queue, count: int, acknowledged: list[str]) -> None:
    """Submit jobs one after the other, each until the server has acknowledged it."""
    for seed in range(count):
        while True:
            try:
                acknowledged.append(await queue.submit(seed))
                break
            except RedisError:
                await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(0.1)  # so that jobs run while others are submitted
