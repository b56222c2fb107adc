"""Row 1: SIGKILL of a random process, or SIGSTOP and SIGCONT of a coordinator, again and again while many jobs run.

How often a step was made is read from the draft's journal: a step is made when the draft is asked for its candidates.
A step that is made again after a kill is repeated; a stop counts as a kill. ``max_steps_repeated_per_kill`` is the
largest number, over all jobs and all moments, of steps of that job repeated so far for each kill since the job began,
rounded up: 1 means that no job ever repeated more than the one step that was in the making.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from gsi.local.stack import ROLES
from tests.chaos.harness import LEASE_SECONDS, POLL_SECONDS, Chaos, Kill, Queue, check_results, now, step_seeds
from tests.chaos.outcome import Outcome
from tests.chaos.sizes import Size

STOP_SHARE = 0.5  # of what happens to coordinators; the rest are kills, each of which costs seconds of a core
NUM_UNDISTURBED = 8  # jobs; with fewer left, all could be over before the next kill


async def kills(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """Every job has exactly one result, which is the undisturbed run's; at most one step is repeated for a kill."""
    outcome = Outcome()
    references = await chaos.references()
    async with chaos.queue("kills") as queue:
        began = now()
        for seed in range(size.kill_jobs):
            await queue.submit(seed)
        done = await break_at_random(chaos, queue, size, random)
        records = await check_results(queue, references[: size.kill_jobs], outcome)
        made = chaos.made_steps(began)
    outcome.kills = len(done)
    seeds = step_seeds(range(size.kill_jobs))
    calls = [(at, *seeds[seed]) for at, seed in made if seed in seeds]
    outcome.max_steps_repeated_per_kill = repeated_per_kill(calls, done)
    outcome.numbers["steps_kept"] = sum(len(record.steps) for record in records)
    outcome.numbers["steps_made"] = len(calls)
    outcome.numbers["jobs_redelivered"] = sum(int(record.fields["attempt"]) > 1 for record in records)
    outcome.numbers["most_attempts"] = max(int(record.fields["attempt"]) for record in records)
    outcome.expect(outcome.kills == size.max_kills, f"only {outcome.kills} kills and stops: the jobs were too quick")
    outcome.expect(outcome.max_steps_repeated_per_kill <= 1, "a job repeated more than one step for a kill")
    return outcome


async def break_at_random(chaos: Chaos, queue: Queue, size: Size, random: Random) -> list[Kill]:
    """Kill or stop processes until there were enough of that, evenly over the jobs that finish; return each.

    Coordinators and services take turns. A service is killed when all three are up: with one of them down most of the
    time, no step would ever be finished.
    """
    done: list[Kill] = []
    async with asyncio.TaskGroup() as stops:
        while len(done) < size.max_kills and not await queue.is_empty():
            await _until_share(queue, size, len(done))
            await asyncio.sleep(random.uniform(0, size.kill_pause_seconds))
            if len(done) % size.service_turn == 1:
                await chaos.all_up(ROLES)
                done.append(chaos.kill(random.choice(ROLES)))
            elif random.random() < STOP_SHARE:
                name = await _coordinator(chaos, random)
                stops.create_task(chaos.stop_for(name, random.uniform(0, 2 * LEASE_SECONDS)))
                await asyncio.sleep(0)  # so that it has been stopped
                done.append(chaos.kills[-1])
            else:
                done.append(chaos.kill(await _coordinator(chaos, random)))
    return done


async def _until_share(queue: Queue, size: Size, num_kills: int) -> None:
    """Wait until as many jobs have finished as belong to so many kills; the last jobs are left undisturbed."""
    share = (size.kill_jobs - NUM_UNDISTURBED) * num_kills / size.max_kills
    while await queue.redis.xlen(queue.keys.results) < share:
        await asyncio.sleep(POLL_SECONDS)


async def _coordinator(chaos: Chaos, random: Random) -> str:
    """Return a coordinator that is up."""
    while not (names := [name for name in chaos.coordinators() if chaos.is_up(name)]):
        await asyncio.sleep(POLL_SECONDS)
    return random.choice(names)


def repeated_per_kill(calls: Sequence[tuple[float, int, int]], done: Sequence[Kill]) -> int:
    """Return the largest number of steps that a job repeated for each kill; ``calls``: (time, job, step index).

    A kill concerns a job if its process was not back when the job began. A step that is repeated although no kill
    concerns its job counts as two.
    """
    worst = 0.0
    began: dict[int, float] = {}
    seen: set[tuple[int, int]] = set()
    num_repeated: Counter[int] = Counter()
    for at, job_seed, index in sorted(calls):
        began.setdefault(job_seed, at)
        if (job_seed, index) in seen:
            num_repeated[job_seed] += 1
            num_kills = sum(kill.at <= at and began[job_seed] <= kill.back_at for kill in done)
            worst = max(worst, num_repeated[job_seed] / num_kills if num_kills else 2.0)
        seen.add((job_seed, index))
    return math.ceil(worst)
