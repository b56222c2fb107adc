"""Submit a job and follow it: what an application does.

The program submits one problem, prints each step as the system keeps it, and prints the answer at the end. It talks to
Redis alone, so it needs neither a model nor a GPU. Start a system first (`.venv/bin/gsi up`), or set `GSI_REDIS_URL`
to the Redis of a running system.
"""

import asyncio
import os

from gsi.client.sdk import DEFAULT_REDIS_URL, AsyncClient

PROBLEM = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. "
    "On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)


async def main() -> None:
    """Run one job and print its steps and its answer."""
    async with AsyncClient(os.environ.get("GSI_REDIS_URL", DEFAULT_REDIS_URL)) as client:
        job_id = await client.submit({"prompt": PROBLEM, "params": {"n": 4, "seed": 5}})
        async for record in client.follow(job_id):
            step = record.to_dict()  # the JSON that docs/step.schema.json describes
            print(f"{step['index'] + 1}  {step['source']}  {step['outcome']}  {step['text'].strip()}")
        result = (await client.result(job_id)).to_dict()
        print(f"{job_id}  {result['state']}  answer {result['answer']}")


if __name__ == "__main__":
    asyncio.run(main())
