"""Your own models: what a user with three checkpoints does.

The program takes a folder with the checkpoints `draft`, `target` and `prm` in Hugging Face's format. It starts the
whole system on them (an embedded Redis, the three services, a coordinator), runs one job, and stops everything. Draft
and target must share a tokenizer; otherwise the program says what differs. Without an argument the program takes the
models that ship with this repository.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsi.client.sdk import AsyncClient
from gsi.local.stack import local_stack
from gsi.runtime.installation import SHIPPED_MODELS

PROBLEM = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. "
    "On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)


def report(name: str, event: Mapping[str, Any]) -> None:
    """Print which process is ready."""
    if event["event"] == "ready":
        print(f"ready  {name}")


async def main(models: Path) -> None:
    """Start a system on the models of a folder, run one job, and print which models answered it."""
    with tempfile.TemporaryDirectory() as logs:
        async with local_stack(Path(logs), report, models=models) as stack, AsyncClient(stack.redis_url) as client:
            job_id = await client.submit({"prompt": PROBLEM, "params": {"n": 4}})
            result = (await client.wait(job_id)).to_dict()
            for role, model in result["models"].items():
                print(f"{role:<6} {model['model']}  {model['num_parameters']:,} parameters")
            print(f"{result['state']}  answer {result['answer']}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED_MODELS))
