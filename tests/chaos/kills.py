"""Row 1: SIGKILL of a random process every few seconds, while many jobs run.

How often a step was made is read from the draft's journal: a step is made when the draft is asked for its candidates.
A step that is made again after a kill is repeated. ``max_steps_repeated_per_kill`` is the largest number, over all jobs
and all moments, of steps of that job repeated so far for each kill since the job began, rounded up: 1 means that no job
ever repeated more than the one step that was in the making.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from gsi.local.stack import ROLES
from tests.chaos.harness import Chaos, Kill, Outcome, Queue, check_results, now, step_seeds
from tests.chaos.sizes import Size


async def kills(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """Every job has exactly one result, which is the undisturbed run's; at most one step is repeated for a kill."""
    outcome = Outcome()
    references = await chaos.references()
    settings = {"GSI_COORDINATOR_MAX_ATTEMPTS": "20"}  # many more kills than a coordinator meets in its life
    async with chaos.queue("kills", settings) as queue:
        began = now()
        for seed in range(size.kill_jobs):
            await queue.submit(seed)
        done = await kill_at_random(chaos, queue, size, random)
        records = await check_results(queue, references[: size.kill_jobs], outcome)
        made = chaos.made_steps(began)
    outcome.kills = len(done)
    seeds = step_seeds(range(size.kill_jobs))
    calls = [(at, *seeds[seed]) for at, seed in made if seed in seeds]
    outcome.max_steps_repeated_per_kill = repeated_per_kill(calls, done)
    outcome.numbers["steps_kept"] = sum(len(record.steps) for record in records)
    outcome.numbers["steps_made"] = len(calls)
    outcome.numbers["jobs_redelivered"] = sum(int(record.fields["attempt"]) > 1 for record in records)
    outcome.expect(outcome.kills > 0, "nothing was killed: the jobs were too quick")
    outcome.expect(outcome.max_steps_repeated_per_kill <= 1, "a job repeated more than one step for a kill")
    return outcome


async def kill_at_random(chaos: Chaos, queue: Queue, size: Size, random: Random) -> list[Kill]:
    """Kill until all jobs have finished or there were enough kills; return them.

    Coordinators and services take turns. A service is killed when all three have been up for some seconds: with one of
    them down most of the time, no step would ever be finished.
    """
    done: list[Kill] = []
    while len(done) < size.max_kills and not await queue.is_empty():
        name = random.choice(ROLES if len(done) % 2 else chaos.coordinators())
        await chaos.all_up(ROLES if name in ROLES else [name])
        await asyncio.sleep(random.uniform(2, 4))
        done.append(chaos.kill(name))
    return done


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
