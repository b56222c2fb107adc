"""Services with the settings that they have unless told otherwise: jobs share forward passes and prefixes."""

import asyncio
from pathlib import Path

from gsi.jobs.reader import JobRecord
from gsi.local.demo import held_out_problems
from gsi.local.stack import ROLES
from tests.system import EXACT, System, start_model_services

NUM_JOBS = 8


async def answers(system: System, first: str) -> list[JobRecord]:
    ids = []
    for seed, problem in enumerate(held_out_problems(NUM_JOBS, skip=60)):
        payload = {"id": f"{first}-{seed}", "prompt": problem["prompt"], "params": {"n": 4, "seed": seed}}
        ids.append(await system.client.submit(payload))
    return list(await asyncio.gather(*map(system.finished, ids)))


def written(records: list[JobRecord]) -> list[list[tuple[int, ...]]]:
    return [[tuple(step.token_ids) for step in record.steps] for record in records]


async def test_jobs_that_share_passes_get_the_answers_of_jobs_that_do_not(tmp_path: Path) -> None:
    """Equal seeds, equal tokens, with cold and with warm prefixes; and the metrics say what was shared and found."""
    (tmp_path / "exact").mkdir()
    async with start_model_services(tmp_path / "exact", EXACT) as services, services.coordinators("exact") as system:
        expected = written(await answers(system, "exact"))
        for role in ROLES:
            found = system.metrics(role)
            assert found["gsi_pass_parts_sum"] == found["gsi_pass_parts_count"] > 0
            assert found["gsi_prefix_cache_hits_total"] == 0
    (tmp_path / "shared").mkdir()
    settings = {"GSI_COORDINATOR_MAX_JOBS": str(NUM_JOBS)}
    async with (
        start_model_services(tmp_path / "shared", {}) as services,
        services.coordinators("shared", settings=settings) as system,
    ):
        assert written(await answers(system, "cold")) == expected
        assert written(await answers(system, "warm")) == expected
        for role in ROLES:
            found = system.metrics(role)
            assert found["gsi_pass_parts_sum"] > found["gsi_pass_parts_count"]
            assert found["gsi_prefix_cache_hits_total"] > 0.5 * found["gsi_prefix_cache_queries_total"]
