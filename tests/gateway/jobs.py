"""Jobs by ``/gsi/v1``, as a program would ask for them."""

from typing import Any

import httpx

from gsi.jobs.state import JobState
from tests.conftest import wait_until


async def submit(http: httpx.AsyncClient, prompt: str, **fields: Any) -> str:
    answer = await http.post("/gsi/v1/jobs", json={"model": "gsi", "prompt": prompt, "params": {"n": 2}} | fields)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def get(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await http.get(f"/gsi/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def finish(http: httpx.AsyncClient, job_id: str) -> Any:
    """Return a job when it has finished."""

    async def is_finished() -> bool:
        return JobState((await get(http, f"jobs/{job_id}"))["job"]["state"]).is_finished

    await wait_until(is_finished, f"job {job_id} finishes")
    return await get(http, f"jobs/{job_id}")
