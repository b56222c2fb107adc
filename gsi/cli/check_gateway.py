"""``gsi check-gateway``: asks a gateway a first question, as a client would."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import typer

from gsi.cli.terminal import RedisUrl, explain_errors
from gsi.client.gateway import open_api_keys
from gsi.client.sdk import DEFAULT_REDIS_URL
from gsi.jobs.connection import RedisAccess

RETRY_SECONDS = 1.0
Answer = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Door:
    """A gateway at ``url``. ``authority``: PEM file of the authority behind its certificate; None: the system's."""

    url: str
    authority: str | None
    seconds: float

    def ask(self, path: str, key: str | None = None, body: Mapping[str, Any] | None = None) -> Answer:
        """Return status and document. Raises OSError if nobody answers."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        context = ssl.create_default_context(cafile=self.authority)
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        try:
            with opener.open(Request(f"{self.url}{path}", data, headers), timeout=self.seconds) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait(self) -> None:
        """Return once the gateway is ready. Raises SystemExit if it is not in time."""
        deadline, said = time.monotonic() + self.seconds, "nothing"
        while time.monotonic() < deadline:
            try:
                status, _ = self.ask("/ready")
            except (URLError, OSError) as error:
                said = str(error)
            else:
                if status == 200:
                    return
                said = f"status {status}"
            time.sleep(RETRY_SECONDS)
        sys.exit(f"{self.url} was not ready within {self.seconds:g} s: {said}")


def ask_first(door: Door, key: str, prompt: str) -> None:
    """Ask, and print the answer. Raises SystemExit for anything but the answer that a client expects."""
    status, refused = door.ask("/v1/models")
    if status != 401:
        sys.exit(f"{door.url}/v1/models without a key: status {status} and not 401: {json.dumps(refused)}")
    status, models = door.ask("/v1/models", key)
    if status != 200:
        sys.exit(f"{door.url}/v1/models: status {status}: {json.dumps(models)}")
    names = [model["id"] for model in models["data"]]
    print(f"models  {', '.join(names)}")
    question = {"model": names[0], "messages": [{"role": "user", "content": prompt}]}
    status, answer = door.ask("/v1/chat/completions", key, question)
    if status != 200:
        sys.exit(f"{names[0]}: status {status}: {json.dumps(answer)}")
    print(f"{names[0]}  {answer['choices'][0]['message']['content']}")
    print(f"usage  {json.dumps(answer['usage'])}")


async def ask_with_key(door: Door, prompt: str, redis_url: str) -> None:
    """Ask with a key that lives as long as the question. Raises RedisError or MisconfiguredError without Redis."""
    async with open_api_keys(redis_url, RedisAccess.from_environment()) as keys:
        expires_at = int(time.time() + 2 * door.seconds) + 1
        secret, key = await keys.create("check-gateway", expires_at=expires_at)
        try:
            await asyncio.to_thread(door.wait)
            await asyncio.to_thread(ask_first, door, secret, prompt)
        finally:
            await keys.revoke(key.id)


def check_gateway(
    url: Annotated[str, typer.Argument(help="Address, such as https://gateway:8000.", show_default=False)],
    prompt: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    wait: Annotated[float, typer.Option(help="Seconds to wait for the gateway, and for its answer.", min=1)] = 60,
    authority: Annotated[
        Path | None, typer.Option(help="Authority of the gateway's certificate, as PEM.", exists=True, dir_okay=False)
    ] = None,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Ask a gateway a first question with a key of its own; exit 1 if it does not answer as it should.

    The key is revoked afterwards. A gateway that answers without a key fails the check. `helm test` runs it.
    """
    with explain_errors():
        asyncio.run(ask_with_key(Door(url, str(authority) if authority else None, wait), prompt, redis_url))
