"""Submit a job and follow it: what an application does.

The program submits one problem, prints each step as the system keeps it, and prints the answer at the end. It talks to
Redis alone, so it needs neither a model nor a GPU. Start a system first (`.venv/bin/gsi up`), or set `GSI_REDIS_URL`
to the Redis of a running system.
"""

import os

from gsi import Client

REDIS_URL = os.environ.get("GSI_REDIS_URL", "redis://127.0.0.1:6379/0")

PROBLEM = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. "
    "On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)


def main() -> None:
    """Run one job and print its steps and its answer."""
    with Client(REDIS_URL) as client:  # AsyncClient has the same methods, for asyncio
        job_id = client.submit({"prompt": PROBLEM, "params": {"n": 4, "seed": 5}})
        for step in client.follow(job_id):  # the fields that docs/step.schema.json describes
            print(f"{step.index + 1}  {step.source}  {step.outcome}  {step.text.strip()}")
        job = client.result(job_id)
        print(f"{job_id}  {job.state}  answer {job.answer}")


if __name__ == "__main__":
    main()
