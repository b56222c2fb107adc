"""Ask a running gateway a first question, as a client would: ``python -m services.gateway.first_request URL PROMPT``.

The chart's test runs it. It makes a key in Redis (``GSI_REDIS_URL``, as for the command ``gsi``), and revokes it at the
end.
"""

import argparse
import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from gsi.client.gateway import open_api_keys
from gsi.client.sdk import DEFAULT_REDIS_URL
from gsi.errors import MisconfiguredError
from gsi.jobs.connection import RedisAccess, RedisError

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


async def first_request(door: Door, prompt: str) -> None:
    """Ask with a key that lives as long as the question. Raises RedisError or MisconfiguredError without Redis."""
    url = os.environ.get("GSI_REDIS_URL", DEFAULT_REDIS_URL)
    async with open_api_keys(url, RedisAccess.from_environment()) as keys:
        expires_at = int(time.time() + 2 * door.seconds) + 1
        secret, key = await keys.create("first request", expires_at=expires_at)
        try:
            await asyncio.to_thread(door.wait)
            await asyncio.to_thread(ask_first, door, secret, prompt)
        finally:
            await keys.revoke(key.id)


def main() -> None:
    """Ask; exit 1 with what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway.first_request", description=main.__doc__)
    parser.add_argument("url", help="such as http://127.0.0.1:8000")
    parser.add_argument("prompt")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the gateway, and for its answer")
    parser.add_argument("--authority", metavar="FILE", help="authority of the gateway's certificate, as PEM")
    given = parser.parse_args()
    try:
        asyncio.run(first_request(Door(given.url, given.authority, given.wait), given.prompt))
    except (MisconfiguredError, RedisError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
