"""Row 4: the connections to a service fail: nothing arrives, they are reset, or every answer is two seconds late."""

import asyncio
from random import Random

from gsi.local.stack import ROLES
from tests.chaos.harness import Chaos, Queue, check_results
from tests.chaos.outcome import Outcome
from tests.chaos.proxy import Fault, Proxy
from tests.chaos.sizes import Size

DEADLINE_SECONDS = 5.0  # of a call; these take 0.1 s to 1 s
LATE_SECONDS = 2.0  # that a call may end after its deadline: a busy machine
DELAY_SECONDS = 2.0
SECONDS = {Fault.BLACK_HOLE: DEADLINE_SECONDS + 2, Fault.RESET: 3.0, Fault.DELAY: 3 * DELAY_SECONDS}


async def connections(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """Deadlines hold, calls are made again, and every job finishes once the connection is whole."""
    outcome = Outcome()
    faults = _chosen(size, random)
    num_jobs = size.connection_jobs * len(faults)
    references = await chaos.references()
    proxies = {role: Proxy(address, DELAY_SECONDS) for role, address in chaos.addresses.items()}
    settings = {f"GSI_COORDINATOR_{role.upper()}": proxy.address for role, proxy in proxies.items()}
    settings |= {f"GSI_COORDINATOR_{role.upper()}_TIMEOUT_SECONDS": str(DEADLINE_SECONDS) for role in ROLES}
    for proxy in proxies.values():
        await proxy.start()
    try:
        async with chaos.queue("connections", settings) as queue:
            for number, (fault, role) in enumerate(faults):
                seeds = range(number * size.connection_jobs, (number + 1) * size.connection_jobs)
                failed = await _break(chaos, queue, proxies[role], fault, seeds)
                outcome.numbers[f"failed_calls_{role}_{fault.replace(' ', '_')}"] = failed
                # a call with a deadline of five seconds lives through a delay
                outcome.expect(failed > 0 or fault is Fault.DELAY, f"{role}, {fault}: no call failed")
            await check_results(queue, references[:num_jobs], outcome)
            retried = chaos.total("gsi_retries_total")
            outcome.numbers["jobs_put_off"] = retried
            outcome.expect(_slowest_deadline(chaos) <= DEADLINE_SECONDS + LATE_SECONDS, "a call outlived its deadline")
    finally:
        for proxy in proxies.values():
            await proxy.stop()
    return outcome


def _chosen(size: Size, random: Random) -> list[tuple[Fault, str]]:
    """Return faults with their services: every fault comes, and every service, before one comes again."""
    faults = [Fault.BLACK_HOLE, Fault.RESET, Fault.DELAY]
    roles = random.sample(ROLES, len(ROLES))
    pairs = [(fault, roles[(index + turn) % 3]) for turn in range(3) for index, fault in enumerate(faults)]
    return pairs[: size.connection_faults]


async def _break(chaos: Chaos, queue: Queue, proxy: Proxy, fault: Fault, seeds: range) -> float:
    """Submit jobs, break the connection to a service while they run, heal it, and wait for them.

    Returns how many calls failed.
    """
    failed_before = _failed_calls(chaos)
    ids = [await queue.submit(seed) for seed in seeds]
    while not [job_id for job_id in ids if (await queue.state(job_id)).get("num_steps")]:
        await asyncio.sleep(0.01)
    proxy.fail(fault)
    await asyncio.sleep(SECONDS[fault])
    proxy.fail(Fault.NONE)
    await queue.finished(ids)
    return _failed_calls(chaos) - failed_before


def _failed_calls(chaos: Chaos) -> float:
    """Return how many calls of the coordinators to services have failed so far, cancelled ones aside."""
    return sum(
        value
        for name in chaos.coordinators()
        for sample, value in chaos.metrics(name).items()
        if sample.startswith("gsi_rpc_seconds_count") and not {"code=OK", "code=CANCELLED"} & set(sample.split())
    )


def _slowest_deadline(chaos: Chaos) -> float:
    """Return the mean seconds of calls that ended at their deadline, of the slowest coordinator and method; 0: none."""
    means = [0.0]
    for name in chaos.coordinators():
        samples = chaos.metrics(name)
        for sample, count in samples.items():
            if sample.startswith("gsi_rpc_seconds_count") and "code=DEADLINE_EXCEEDED" in sample and count:
                means.append(samples[sample.replace("_count", "_sum", 1)] / count)
    return max(means)
