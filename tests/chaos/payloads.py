"""Row 5: malformed and hostile payloads among good ones, pushed by bare XADDs as anything on the network could."""

import asyncio
import time
from collections import Counter
from random import Random

from tests.chaos.fuzz import bad_payload, huge_payload
from tests.chaos.harness import Chaos, Queue, check_results
from tests.chaos.outcome import Outcome
from tests.chaos.sizes import Size

BATCH = 500  # payloads on one pipeline
MAX_GROWTH_BYTES = 128 * 2**20  # of a coordinator's memory, once all is over
STALL_SECONDS = 40.0  # longer than the five attempts of a job that is put off each time
MAX_PEAK_COPIES = 6  # of the hugest payload, at worst


async def payloads(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """Each bad one ends FAILED with the field named, each good one with its answer, and memory stays bounded."""
    outcome = Outcome()
    references = await chaos.references()
    async with chaos.queue("payloads") as queue:
        await queue.finished([await queue.submit(seed) for seed in range(size.good_payloads)])  # warm: all is loaded
        for seed in range(size.good_payloads):
            await queue.client.forget(f"{queue.name}-{seed}")
        await queue.redis.xtrim(queue.keys.results, maxlen=0)
        before = chaos.memory()
        expected = await _push(queue, size, random)
        await _until_all_ended(queue, expected, outcome)
        await check_results(queue, references[: size.good_payloads], outcome)
        outcome.jobs += len(expected)
        grown, peak = chaos.memory() - before, chaos.memory("VmHWM") - before
        outcome.numbers |= {
            "coordinator_bytes_before": before,
            "coordinator_bytes_grown": grown,
            "coordinator_bytes_peak": peak,
            "redis_bytes": (await queue.redis.info("memory"))["used_memory"],
        }
        limit = MAX_GROWTH_BYTES + MAX_PEAK_COPIES * size.huge_bytes
        outcome.expect(grown <= MAX_GROWTH_BYTES, f"a coordinator grew by {grown} bytes; allowed: {MAX_GROWTH_BYTES}")
        outcome.expect(peak <= limit, f"a coordinator took up to {peak} bytes more; allowed: {limit}")
    return outcome


async def _push(queue: Queue, size: Size, random: Random) -> dict[str, str]:
    """Push bad payloads, and good ones evenly among them; return what a bad one's error must say, by its id."""
    expected: dict[str, str] = {}
    every = size.bad_payloads // size.good_payloads
    for start in range(0, size.bad_payloads, BATCH):
        numbers = range(start, min(start + BATCH, size.bad_payloads))
        chosen = [bad_payload(random) for _ in numbers]
        pipeline = queue.redis.pipeline(transaction=False)
        for payload, _ in chosen:
            pipeline.xadd(queue.keys.jobs, {"job": payload})
        entries = await pipeline.execute()
        expected |= {entry.decode(): words for entry, (_, words) in zip(entries, chosen, strict=True)}
        for seed in {number // every for number in numbers if number % every == 0}:
            if seed < size.good_payloads:
                await queue.submit(seed)
    entry = await queue.redis.xadd(queue.keys.jobs, {"job": huge_payload(size.huge_bytes)})
    expected[entry.decode()] = "job: "
    entry = await queue.redis.xadd(queue.keys.jobs, {"jobs": "a misspelt field"})
    expected[entry.decode()] = "job: "
    entry = await queue.redis.xadd(queue.keys.jobs, {"job": '{"prompt":"x"}', "id": "x:steps"})
    expected[entry.decode()] = "id: "
    return expected


async def _until_all_ended(queue: Queue, expected: dict[str, str], outcome: Outcome) -> None:
    """Wait until nothing is left, or nothing moves; note each bad payload whose end is not as promised."""
    announced = Counter[str]()
    moved_at = time.monotonic()
    while not await queue.is_empty() and time.monotonic() < moved_at + STALL_SECONDS:
        await asyncio.sleep(0.5)
        seen, announced = announced, await queue.announced()
        moved_at = time.monotonic() if announced != seen else moved_at
    announced = await queue.announced()
    wrong: list[str] = []
    for job_id, words in expected.items():
        state, error = await queue.redis.hmget(queue.keys.record(job_id), "state", "error")
        if state != b"FAILED" or words.encode() not in error:
            wrong.append(f"{job_id} is {state!r} with {(error or b'')[:200]!r}; expected: FAILED with {words!r}")
    outcome.lost += sum(announced[job_id] == 0 for job_id in expected)
    outcome.duplicated += sum(announced[job_id] > 1 for job_id in expected)
    outcome.numbers["bad_payloads"] = len(expected)
    outcome.expect(not wrong, f"{len(wrong)} bad payloads did not end as promised: " + "; ".join(wrong[:5]))
