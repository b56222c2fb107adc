"""Row 6: a job whose prompt ends the draft's process, each time that candidates for it are asked for."""

import json
from random import Random

from tests.chaos.harness import POISON, Chaos, check_results
from tests.chaos.outcome import Outcome
from tests.chaos.sizes import Size


async def poison(chaos: Chaos, size: Size, random: Random) -> Outcome:
    """It is DEAD after ``max_attempts``, with the reason and its last error; the others have their answers.

    It is pushed by a bare XADD without an id of its own, as another language would.
    """
    outcome = Outcome()
    references = await chaos.references()
    settings = {
        "GSI_COORDINATOR_MAX_ATTEMPTS": str(size.poison_attempts),
        "GSI_COORDINATOR_RETRY_SECONDS": "1",
    }
    crashes_before = chaos.num_logged("draft", "loading")
    place, poison_id = random.randrange(size.poison_jobs), ""
    async with chaos.queue("poison", settings) as queue:
        for seed in range(size.poison_jobs):
            if seed == place:
                payload = json.dumps({"prompt": POISON, "params": {"n": 2, "seed": 1}})  # without an id: its entry's
                poison_id = (await queue.redis.xadd(queue.keys.jobs, {"job": payload})).decode()
            await queue.submit(seed)
        [dead] = await queue.finished([poison_id])
        letters = [fields for _, fields in await queue.redis.xrange(queue.keys.dead)]
        await check_results(queue, references[: size.poison_jobs], outcome)
        announced = (await queue.announced())[poison_id]
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
    outcome.expect([letter[b"id"] for letter in letters] == [poison_id.encode()], f"dead letters: {letters}")
    return outcome
