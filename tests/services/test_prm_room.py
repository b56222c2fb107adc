"""A PRM whose context is shorter than the answer: the job ends with the steps that it had room for."""

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gsi.algorithm.candidates import Message
from gsi.algorithm.ports import NoRoomError
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.reward_families import QWEN_PROCESS_REWARD, find_family
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import REWARD_ENGINES
from gsi.jobs.state import JobState
from gsi.rpc.clients import PrmClient
from gsi.rpc.convert import ReceivedText
from services.prm.servicer import SERVICE, add_to_server
from tests.conftest import MODELS, wait_until
from tests.services.conftest import serving
from tests.services.test_outcome_reward import PROMPT
from tests.system import ModelServices, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = (Message("user", PROMPT),)
ROOM = 60  # tokens behind the prompt


def copy_prm(folder: Path, num_tokens: int, **tokenizer: str) -> str:
    """Copy the shipped PRM with a shorter context, and with another chat template if one is given."""
    shutil.copytree(MODELS / "prm", folder)
    changed: dict[str, dict[str, Any]] = {
        "config.json": {"max_position_embeddings": num_tokens},
        "tokenizer_config.json": dict(tokenizer),
    }
    for name, changes in changed.items():
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))
    return str(folder)


def count_prompt() -> int:
    return len(Tokenizer(str(MODELS / "draft"), None).render(MESSAGES))


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["the same template", "a longer template"])
async def system(
    model_services: ModelServices, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[System]:
    """The second PRM writes more around the prompt than the draft does, which the coordinator cannot know."""
    written: dict[str, str] = {}
    if request.param == "a longer template":
        plain = json.loads((MODELS / "prm" / "tokenizer_config.json").read_text())["chat_template"]
        written = {"chat_template": "How good is each step of this answer? " + plain}
    model = copy_prm(tmp_path_factory.mktemp("short") / "prm", count_prompt() + ROOM, **written)
    load = partial(REWARD_ENGINES.load, "transformers", EngineSettings(model, num_threads=1))
    async with serving(SERVICE, add_to_server, load) as prm:
        settings = {"GSI_COORDINATOR_PRM": prm.address}
        async with model_services.coordinators(f"room-{len(written)}", settings=settings) as running:
            yield running


@pytest.mark.parametrize(
    "params",
    [
        {"n": 16},
        {"n": 2, "method": "best-of-n", "scope": "responses"},
        {"n": 4, "method": "beam-search"},
    ],
    ids=lambda params: str(params.get("method", "gsi")),
)
async def test_an_answer_that_outgrows_the_prm_ends_with_its_steps(system: System, params: dict[str, Any]) -> None:
    """Temperature and threshold make long answers; before, such a job was FAILED with an empty text."""
    job_id = await system.client.submit({"prompt": PROMPT, "params": {**params, "seed": 3, "temperature": 1.0}})
    record = await system.finished(job_id)
    assert record.state is JobState.SUCCEEDED, record.fields
    assert record.fields["stop_reason"] == "max_tokens"
    assert record.fields["text"]
    assert len(record.steps) >= 1


async def test_a_prompt_that_fills_the_prm_is_refused(system: System) -> None:
    """There is no step to end with."""
    job_id = await system.client.submit({"prompt": PROMPT * 3, "params": {"n": 1}})
    record = await system.finished(job_id)
    assert record.state is JobState.FAILED
    assert "prompt" in record.fields["error"]
    assert "allowed: " in record.fields["error"]


async def test_the_prm_says_how_many_tokens_it_has_left(tmp_path: Path) -> None:
    """Over the wire: what the context has, less conversation and kept steps."""
    model = copy_prm(tmp_path / "prm", 100)
    load = partial(REWARD_ENGINES.load, "transformers", EngineSettings(model, num_threads=1))
    steps = ("On Monday Tom brings her 4 bags of 3 shells.\n\n",)
    family = find_family(QWEN_PROCESS_REWARD, 2, Tokenizer(model, None), model)
    assert family is not None
    async with serving(SERVICE, add_to_server, load) as prm, closing_client(prm.address) as client:
        await wait_until(client.is_serving, "the PRM serves")
        with pytest.raises(NoRoomError, match="allowed: at most 100, its context") as refused:
            await score(client, steps, "and " * 100)
        assert refused.value.room == 100 - len(family.prefix(MESSAGES, steps)) > 0
        with pytest.raises(NoRoomError) as refused:
            await score(client, steps * 10, "7")
        assert refused.value.room == 0


@asynccontextmanager
async def closing_client(address: str) -> AsyncIterator[PrmClient]:
    client = PrmClient(address, 30.0)
    try:
        yield client
    finally:
        await client.close()


async def score(client: PrmClient, steps: tuple[str, ...], text: str) -> None:
    async def send() -> AsyncGenerator[list[ReceivedText], None]:
        yield [ReceivedText(0, text)]

    async for _ in client.score(MESSAGES, steps, send()):
        pass
