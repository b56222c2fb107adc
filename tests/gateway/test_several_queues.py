"""One gateway in front of several trios of models, each on a queue of its own (docs/deploy/several-trios.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsi.algorithm.candidates import Candidate
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches
from gsi.client.sdk import AsyncClient
from tests.gateway.engines import Scripted
from tests.gateway.system import ENGINES, Gateway, scripted_models

PRESETS = """
[models.quiet]
queue = "several-quiet"
params = { method = "gsi", n = 2 }

[models.loud]
queue = "several-loud"
params = { method = "rsd", n = 2 }
"""


class Loud(Scripted):
    """Another model: it writes what it is told in capitals."""

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        async for batch in super().propose(prefix, n, sampling, seed):
            yield [
                Candidate(each.index, each.token_ids, each.text.upper(), each.log_likelihood, each.finish_reason)
                for each in batch
            ]


async def ask(gateway: Gateway, model: str, text: str) -> Any:
    messages: list[Any] = [{"role": "user", "content": text}]
    return await gateway.openai().chat.completions.create(model=model, messages=messages)


async def test_the_models_name_says_which_trio_answers(redis_url: str, tmp_path: Path) -> None:
    """Each of two queues has models of its own; a job is in the queue of its model and in no other."""
    presets = tmp_path / "presets.toml"
    presets.write_text(PRESETS)
    engines = {role: Loud if role != "prm" else make for role, make in ENGINES.items()}
    said = {"quiet": "one. two.", "loud": "ONE. TWO."}
    async with (
        scripted_models(tmp_path, redis_url, "several-quiet") as quiet,
        scripted_models(tmp_path, redis_url, "several-loud", engines),
        quiet.gateway("several", {"GSI_GATEWAY_PRESETS": str(presets)}) as gateway,
    ):
        assert [model.id async for model in gateway.openai().models.list()] == ["quiet", "loud"]
        for model in ("quiet", "loud", "quiet"):
            answer = await ask(gateway, model, "one. |two.")
            assert (answer.model, answer.choices[0].message.content) == (model, said[model])
            (job,) = answer.gsi["jobs"]
            for queue in said:
                async with AsyncClient(redis_url, f"several-{queue}") as jobs:
                    assert await jobs.exists(job["id"]) == (queue == model)
