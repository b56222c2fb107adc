"""The gateway and the exporters of a run for dashboards: requests of every kind, so that every panel has data.

The gateway asks for keys. Requests succeed, stream, are limited, are left by their client, and fail because their jobs
die; a batch stays in progress until the end.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gsi.client.gateway import open_api_keys
from gsi.errors import MisconfiguredError
from gsi.local.demo import held_out_problems
from gsi.local.embedded_redis import free_port

CHAT = "/v1/chat/completions"
NUM_REQUESTS = 6
SECONDS_BETWEEN_SCRAPES = 3.0  # more than Prometheus needs for two
BATCH_LINES = 200  # more than finish in the run
PRESETS = """
[models.gsi]
queue = "{main}"
params = {{ method = "gsi", n = 4 }}

[models.hurried]
queue = "{hurried}"
params = {{ method = "gsi", n = 256 }}
"""


@dataclass(frozen=True, slots=True)
class GatewayUnderTest:
    """A gateway's address and settings."""

    url: str
    redis_url: str
    environment: dict[str, str]


def make_gateway(folder: Path, redis_url: str, main_queue: str, hurried_queue: str) -> GatewayUnderTest:
    """Return a gateway whose model ``hurried`` is the queue in which jobs die."""
    presets, address = folder / "presets.toml", f"127.0.0.1:{free_port()}"
    presets.write_text(PRESETS.format(main=main_queue, hurried=hurried_queue), encoding="utf-8")
    environment = {
        "GSI_GATEWAY_LISTEN": address,
        "GSI_GATEWAY_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "GSI_GATEWAY_REDIS_URL": redis_url,
        "GSI_GATEWAY_PRESETS": str(presets),
        "GSI_GATEWAY_FILES": str(folder / "files"),
        "GSI_GATEWAY_KEYS": "true",
    }
    return GatewayUnderTest(f"http://{address}", redis_url, environment)


def exporter_environment(redis_url: str, queue: str) -> dict[str, str]:
    """Return the settings of a queue's exporter."""
    return {
        "GSI_EXPORTER_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "GSI_EXPORTER_REDIS_URL": redis_url,
        "GSI_EXPORTER_QUEUE": queue,
    }


async def ask_gateway(gateway: GatewayUnderTest) -> None:
    """Ask in every way that a panel or an alert shows. Raises MisconfiguredError for an unexpected status."""
    async with open_api_keys(gateway.redis_url) as keys:
        secret, _ = await keys.create("dashboards", tenant="website")
        narrow, _ = await keys.create("a narrow one", tenant="trial", requests_per_minute=1)
    async with _caller(gateway, secret) as http, _caller(gateway, narrow) as limited:
        _expect(await http.get("/v1/models"), 200)
        await _begin_batch(http)
        problems = [problem["prompt"] for problem in held_out_problems(NUM_REQUESTS)]
        answers = await asyncio.gather(*(http.post(CHAT, json=_body("gsi", prompt)) for prompt in problems))
        for answer in answers:
            _expect(answer, 200)
        _expect(await http.post(CHAT, json=_body("gsi", problems[0], stream=True)), 200)
        await _leave(http, problems[0])
        _expect(await limited.post(CHAT, json=_body("gsi", problems[0])), 200)
        # A rate sees no first increment of a series that is new itself.
        await asyncio.sleep(SECONDS_BETWEEN_SCRAPES)
        _expect(await limited.post(CHAT, json=_body("gsi", problems[0])), 429)
        for prompt in problems[:2]:
            _expect(await http.post(CHAT, json=_body("hurried", prompt)), 500)


def _caller(gateway: GatewayUnderTest, secret: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=300, trust_env=False)


def _body(model: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


async def _begin_batch(http: httpx.AsyncClient) -> None:
    prompt = held_out_problems(1)[0]["prompt"]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": CHAT, "body": _body("gsi", prompt, seed=number)}
        for number in range(BATCH_LINES)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    uploaded = await http.post("/v1/files", files={"file": ("lines.jsonl", text)}, data={"purpose": "batch"})
    _expect(uploaded, 200)
    batch = {"input_file_id": uploaded.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    _expect(await http.post("/v1/batches", json=batch), 200)


async def _leave(http: httpx.AsyncClient, prompt: str) -> None:
    """Ask, and go away before the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await http.post(CHAT, json=_body("gsi", prompt))


def _expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise MisconfiguredError(f"{answer.request.url}: status {answer.status_code} and not {status}: {answer.text}")
