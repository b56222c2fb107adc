"""Row 6: a job whose prompt ends the draft's process, each time that candidates for it are asked for."""

from random import Random

from tests.chaos.harness import POISON, Chaos, Outcome, check_results
from tests.chaos.sizes import Size

POISON_ID = "poison"


async def poison(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """It is DEAD after ``max_attempts``, with the reason and its last error; the others have their answers."""
    outcome = Outcome()
    references = await chaos.references()
    settings = {
        "GSI_COORDINATOR_MAX_ATTEMPTS": str(size.poison_attempts),
        "GSI_COORDINATOR_RETRY_SECONDS": "1",
    }
    crashes_before = chaos.num_logged("draft", "loading")
    place = random.randrange(size.poison_jobs)
    async with chaos.queue("poison", settings) as queue:
        for seed in range(size.poison_jobs):
            if seed == place:
                await queue.client.submit({"id": POISON_ID, "prompt": POISON, "params": {"n": 2, "seed": 1}})
            await queue.submit(seed)
        [dead] = await queue.finished([POISON_ID])
        letters = [fields for _, fields in await queue.redis.xrange(queue.keys.dead)]
        await check_results(queue, references[: size.poison_jobs], outcome)
        announced = (await queue.announced())[POISON_ID]
    outcome.jobs += 1
    outcome.numbers["engine_crashes"] = chaos.num_logged("draft", "loading") - crashes_before
    outcome.expect(dead.state == "DEAD", f"the poison job is {dead.state}: {dead.fields.get('error')}")
    outcome.expect(
        dead.fields["attempt"] == str(size.poison_attempts),
        f"it was tried {dead.fields['attempt']} times; allowed: {size.poison_attempts}",
    )
    outcome.expect(bool(dead.fields.get("dead_reason")), "it has no reason")
    outcome.expect("draft" in dead.fields.get("last_error", ""), f"its last error: {dead.fields.get('last_error')}")
    outcome.expect(announced == 1, f"it has {announced} results")
    outcome.expect([letter[b"id"] for letter in letters] == [POISON_ID.encode()], f"dead letters: {letters}")
    return outcome
