"""Which server stands at an address, once it is there."""

import asyncio
import time
from typing import Any

import structlog

from gsi.engines.base import EngineSettings
from gsi.engines.on_remote.http import Http
from gsi.engines.on_remote.model_server import RemoteKind
from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError

log = structlog.get_logger()

MODELS = "/v1/models"  # all three kinds answer it
OWNERS = {"vllm": RemoteKind.VLLM, "sglang": RemoteKind.SGLANG, "llamacpp": RemoteKind.LLAMACPP}
POLL_SECONDS = 1.0
LOG_SECONDS = 10.0  # between two lines of a service that waits
WATCH_SECONDS = 10.0  # between two looks at which model a server has


async def wait_for_server(http: Http, settings: EngineSettings) -> tuple[RemoteKind, dict[str, Any]]:
    """Wait until the server answers; return its kind, and its model's entry in the list of models.

    Raises MisconfiguredError if it does not answer in time, or is no model server.
    """
    start = time.monotonic()
    logged = -LOG_SECONDS
    while True:
        try:
            answer = await http.get(MODELS)
            break
        except RetryableError as error:
            waited = time.monotonic() - start
            if waited >= settings.remote_wait_seconds:
                raise MisconfiguredError(
                    f"remote_url: {error}; waited {waited:.0f} s for the model server; start it, or mend the address"
                ) from error
            if waited - logged >= LOG_SECONDS:
                logged = waited
                log.warning("waiting for the model server", url=http.url, reason=str(error))
        except InvalidRequestError as error:
            raise MisconfiguredError(f"remote_url: {error}; allowed: a model server, which lists its models") from error
        await asyncio.sleep(min(POLL_SECONDS, settings.remote_wait_seconds))
    model = _read_model(http, answer)
    return _find_kind(http, settings.remote_kind, str(model.get("owned_by"))), model


def refuse_server(http: Http, error: BaseException) -> None:
    """Raise MisconfiguredError in place of an error at the start that would not say what to do."""
    if isinstance(error, RetryableError):
        raise MisconfiguredError(f"remote_url: {error}; the server answered before, so look at its log") from error
    if isinstance(error, LookupError | TypeError):  # of what an answer has and has not
        raise MisconfiguredError(
            f"remote_kind: {http.url} answers in another form than a server of its kind ({error!r}); allowed: the "
            "servers and releases of docs/remote.md"
        ) from error


async def watch_model(http: Http, model: str) -> str:
    """Return the reason once the server has another model; wait for as long as it has the same, or is away."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            found = _read_model(http, await http.get(MODELS))["id"]
        except (RetryableError, InvalidRequestError, MisconfiguredError):
            continue
        if found != model:
            return f"{http.url} now serves {found}, and not {model}"


def _read_model(http: Http, answer: Any) -> dict[str, Any]:
    """Return the first model that is no adapter of another one."""
    models = answer.get("data") if isinstance(answer, dict) else None
    for model in models or ():
        if isinstance(model, dict) and "id" in model and not model.get("parent"):
            return model
    raise MisconfiguredError(f"remote_url: {http.url} lists no model; allowed: a server with one model")


def _find_kind(http: Http, wanted: str, owner: str) -> RemoteKind:
    if wanted != RemoteKind.AUTO:
        return RemoteKind(wanted)
    if owner not in OWNERS:
        allowed = ", ".join(kind for kind in RemoteKind if kind is not RemoteKind.AUTO)
        raise MisconfiguredError(
            f"remote_kind: {http.url} does not say which server it is (owned_by is {owner}); set it to one of {allowed}"
        )
    return OWNERS[owner]
