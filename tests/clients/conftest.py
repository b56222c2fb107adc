"""Scripted models for all clients, and a gateway before them that asks for keys and has a place for files."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gsi.client.gateway import open_api_keys
from tests.gateway.system import Gateway, Models, scripted_models
from tests.system import ModelServices


@dataclass(frozen=True)
class Door:
    """A gateway, with a key that may ask all its models."""

    gateway: Gateway
    redis_url: str
    key: str

    @property
    def base_url(self) -> str:
        return f"{self.gateway.url}/v1"

    @property
    def variables(self) -> dict[str, str]:
        """How users tell OpenAI's clients of a server."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.key}

    async def new_small_key(self) -> str:
        """Return a key that may ask one model, once a minute."""
        async with open_api_keys(self.redis_url) as keys:
            key, _ = await keys.create("small", models=("gsi:draft",), requests_per_minute=1)
        return key


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def models(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> AsyncIterator[Models]:
    async with scripted_models(tmp_path_factory.mktemp("models"), redis_url, "clients") as running:
        yield running


@pytest.fixture(scope="session")
def place_for_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(models: Models, place_for_files: Path) -> AsyncIterator[Door]:
    settings = {"GSI_GATEWAY_KEYS": "true", "GSI_GATEWAY_FILES": str(place_for_files)}
    async with models.gateway("clients", settings) as gateway:
        async with open_api_keys(models.redis_url) as keys:
            key, _ = await keys.create("all")
        yield Door(gateway, models.redis_url, key)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trained(model_services: ModelServices, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway before the shipped models, which can do the problems that evaluation programs ask."""
    queue = "clients-trained"
    async with model_services.coordinators(queue) as system:
        models = Models(system.stack.redis_url, queue, tmp_path_factory.mktemp("trained"))
        async with models.gateway("trained") as gateway:
            yield gateway
