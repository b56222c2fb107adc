"""Jobs whose traces have something to show: differing candidates, a rejected step, numbers that are none."""

from typing import Any

from tests.gateway.system import Gateway

KEPT = {"keep_candidates": True, "n": 4, "seed": 5}
ODD = r"{Let $x^2 = 4$ (0.8)/Let $y$ be odd (nan)/So it is (never)/Half of it (0.3)}.|!Then \(x = 2\).|\boxed{2}"


async def run(gateway: Gateway, prompt: str, **params: Any) -> str:
    """Run a job to its end; return its id."""
    job_id = await gateway.jobs.submit({"prompt": prompt, "params": KEPT | params})
    await gateway.jobs.wait(job_id)
    return job_id
