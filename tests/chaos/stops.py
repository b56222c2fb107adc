"""Row 2: SIGSTOP of a coordinator until its jobs are another's, then SIGCONT."""

import asyncio
import os
import signal
from random import Random

from tests.chaos.harness import LEASE_SECONDS, Chaos, Queue, check_results, coordinator_pid, until
from tests.chaos.outcome import Outcome
from tests.chaos.sizes import Size


async def stops(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """No second result, and no step with the fencing token of the one that was stopped."""
    outcome = Outcome()
    references = await chaos.references()
    async with chaos.queue("stops") as queue:
        ids = [await queue.submit(seed) for seed in range(size.stop_jobs)]
        pid = await _busy_coordinator(queue, ids)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.2)  # what it had sent has arrived
            tokens = await _tokens_of(queue, ids, pid)
            kept = {job_id: (await queue.step_tokens(job_id)).count(token) for job_id, token in tokens.items()}
            await until(lambda: _all_taken_over(queue, tokens))
        finally:
            os.kill(pid, signal.SIGCONT)
        await check_results(queue, references[: size.stop_jobs], outcome)
        await asyncio.sleep(2 * LEASE_SECONDS)  # whatever the woken one still wants to write
        outcome.duplicated = sum(count > 1 for count in (await queue.announced()).values())
        outcome.expect(outcome.duplicated == 0, "the woken coordinator wrote a second result")
        for job_id, token in tokens.items():
            step_tokens = await queue.step_tokens(job_id)
            outcome.expect(step_tokens.count(token) == kept[job_id], f"{job_id}: the woken one wrote a step")
            outcome.expect(step_tokens == sorted(step_tokens), f"{job_id}: a step with an older token follows")
        is_same = pid in {chaos.processes[name].pid for name in chaos.coordinators()}
        outcome.expect(is_same, "the woken coordinator did not live on")
        outcome.numbers["jobs_taken_over"] = len(tokens)
        outcome.numbers["leases_lost"] = chaos.total("gsi_leases_lost_total")
    return outcome


async def _busy_coordinator(queue: Queue, ids: list[str]) -> int:
    """Return the id of a coordinator that has kept a step of a job that goes on."""
    while True:
        for job_id in ids:
            job = await queue.state(job_id)
            if job["state"] == "RUNNING" and job.get("num_steps") in {"1", "2"}:
                return coordinator_pid(job["worker"])


async def _tokens_of(queue: Queue, ids: list[str], pid: int) -> dict[str, int]:
    """Return the fencing tokens of the jobs that a coordinator is running."""
    jobs = {job_id: await queue.state(job_id) for job_id in ids}
    return {
        job_id: int(job["token"])
        for job_id, job in jobs.items()
        if job["state"] == "RUNNING" and coordinator_pid(job["worker"]) == pid
    }


async def _all_taken_over(queue: Queue, tokens: dict[str, int]) -> bool:
    now = [int((await queue.state(job_id))["token"]) for job_id in tokens]
    return all(later > before for later, before in zip(now, tokens.values(), strict=True))
