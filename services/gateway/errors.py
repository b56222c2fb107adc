"""Refusals in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}`` with an HTTP status."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse

from gsi.errors import InvalidRequestError

INVALID = "invalid_request_error"
LEFT_STATUS = 499  # nginx's number for a client that went away before it was answered
SHARED_PARAMS = frozenset({"temperature", "top_p", "max_tokens", "seed", "stop"})  # ours have OpenAI's names
_FIELD = re.compile(r"^([\w.]+)(?=[,:])")


class ApiError(Exception):
    """A request that is refused. ``param`` is the field at fault, ``code`` a word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code},
        }

    def to_response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def refuse(param: str, message: str, code: str | None = None) -> ApiError:
    """Return the refusal of a field, whose name begins the sentence."""
    return ApiError(400, f"{param}: {message}", param=param, code=code)


def refuse_job(error: InvalidRequestError, name: Callable[[str], str] | None = None) -> ApiError:
    """Return the refusal of a job. ``name`` gives a field's name in the request; None: OpenAI's and ours."""
    message = str(error)
    found = _FIELD.match(message)
    if not found:
        return ApiError(400, message)
    param = (name or name_in_request)(found[1])
    return ApiError(400, param + message[found.end() :], param=param)


def name_in_request(field: str) -> str:
    """Return what a request calls a field of a job's payload."""
    if field.startswith("params."):
        name = field.removeprefix("params.")
        return name if name.partition(".")[0] in SHARED_PARAMS else f"gsi.{name}"
    head, *rest = field.split(".")
    if head == "messages":
        return head + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in rest)
    return field
