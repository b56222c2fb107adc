"""One queue, one trio of models: who may serve a queue, on a real server."""

from dataclasses import replace
from typing import Any

import pytest

from gsi.jobs.connection import Redis
from gsi.jobs.errors import OtherModelsError
from gsi.jobs.keys import Keys
from gsi.jobs.queue_models import QueueModels
from gsi.jobs.submitter import JobSubmitter
from gsi.model_info import ModelInfo
from tests.jobs.sample import JOB

MODEL = ModelInfo("draft", "r1", "tokens", 64, 512, (1,), (2,), (), "transformers", "1", checkpoint_fingerprint="f1")
OURS = {"draft": MODEL, "target": replace(MODEL, model="target"), "prm": replace(MODEL, model="prm")}
NEW_TARGET = OURS | {"target": replace(OURS["target"], revision="r2", checkpoint_fingerprint="f2")}
NEW_PAIR = NEW_TARGET | {"draft": replace(MODEL, revision="r2", checkpoint_fingerprint="f2")}


@pytest.fixture
def models(redis: Redis, keys: Keys) -> QueueModels:
    return QueueModels(redis, keys)


async def test_the_first_coordinator_gives_the_queue_its_models(models: QueueModels) -> None:
    """Others with the same models are let in, as often as they ask."""
    assert await models.read() is None
    noted = await models.claim(OURS)
    assert noted == await models.claim(OURS) == await models.read()
    assert noted["target"] == {"model": "target", "revision": "r1", "checkpoint_fingerprint": "f1"}


async def test_a_coordinator_with_another_model_is_refused_by_name(models: QueueModels, keys: Keys) -> None:
    """The sentence names the role that differs, what the queue has and what was brought. The queue keeps its models."""
    noted = await models.claim(OURS)
    with pytest.raises(OtherModelsError) as refused:
        await models.claim(NEW_TARGET)
    assert str(refused.value) == f"queue {keys.queue} has other models: target: target (r1, f1), not target (r2, f2)"
    assert await models.read() == noted


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"model": "/elsewhere/draft"}, True),  # the same files
        ({"engine": "vllm", "dtype": "float16"}, True),
        ({"checkpoint_fingerprint": ""}, True),  # a remote server, or an older service, does not know it
        ({"checkpoint_fingerprint": "", "revision": "r2"}, False),
        ({"checkpoint_fingerprint": "f2"}, False),
    ],
    ids=str,
)
async def test_a_model_is_known_by_its_files_or_else_by_its_name(
    models: QueueModels, change: dict[str, Any], *, is_same: bool
) -> None:
    """How an engine runs a model does not make it another one."""
    await models.claim(OURS)
    changed = OURS | {"draft": replace(MODEL, **change)}
    if is_same:
        await models.claim(changed)
    else:
        with pytest.raises(OtherModelsError, match="draft: "):
            await models.claim(changed)


async def test_coordinators_whose_services_change_take_the_queue_with_them(models: QueueModels) -> None:
    """One role after the other, in whatever order two coordinators notice. A third with the old models is refused."""
    first = second = await models.claim(OURS)
    first = await models.claim(NEW_TARGET, first)
    second = await models.claim(NEW_PAIR, second)
    assert await models.claim(NEW_PAIR, first) == second == await models.read()
    with pytest.raises(OtherModelsError, match=r"draft: .*; target: "):
        await models.claim(OURS)


async def test_who_adopts_a_queue_replaces_its_models(models: QueueModels) -> None:
    """The setting is the operator's word."""
    await models.claim(OURS)
    adopted = await models.claim(NEW_PAIR, adopts=True)
    assert await models.read() == adopted
    assert adopted["draft"]["checkpoint_fingerprint"] == "f2"


async def test_models_are_forgotten_when_no_job_is_unfinished(
    models: QueueModels, submitter: JobSubmitter, redis: Redis, keys: Keys
) -> None:
    """The steps of a job that waits may be tokens of the old models."""
    noted = await models.claim(OURS)
    await submitter.submit(JOB)
    assert await models.forget() == 1
    assert await models.read() == noted
    assert await models.forget(force=True) == 1
    assert await models.read() is None
    raw: Any = redis
    await raw.delete(keys.jobs)
    await models.claim(NEW_PAIR)
    assert await models.forget() == 0
    assert await models.read() is None
