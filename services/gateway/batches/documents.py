"""A batch as OpenAI's clients read it, and the lines of its files."""

import json
import time
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from gsi.jobs.api_keys import ApiKey
from services.gateway.errors import ApiError

FINISHED = frozenset({"completed", "failed", "expired", "cancelled"})
PRIVATE = {"tenant", "key", "digest", "counts", "errors"}
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
CANCELLED = ("batch_cancelled", "This request was not executed: its batch was cancelled.")


class Counts(BaseModel):
    model_config = ConfigDict(frozen=True)

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(BaseModel):
    """A batch. ``tenant``, ``key`` and ``digest`` say whose it is; clients do not see them."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: str = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    expires_at: int
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    metadata: dict[str, Any] | None = None
    counts: Counts = Counts()
    model: str | None = None
    usage: dict[str, Any] | None = None
    errors: tuple[dict[str, Any], ...] = ()
    tenant: str
    key: ApiKey | None = None
    digest: str = ""

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def job_prefix(self) -> str:
        """What the ids of its jobs begin with; the number of the line follows."""
        return self.id.removeprefix("batch_")

    def moved(self, status: str, **changes: Any) -> Self:
        """Return the batch in another status, with the time at which it came there."""
        return self.model_copy(update={"status": status, f"{status}_at": int(time.time()), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return what clients see."""
        shown = self.model_dump(exclude=PRIVATE)
        errors = {"object": "list", "data": list(self.errors)} if self.errors else None
        return {**shown, "errors": errors, "request_counts": self.counts.model_dump()}


def answer_line(line_id: str, custom_id: str, body: Mapping[str, Any]) -> bytes:
    """Return a line of the output file."""
    response = {"status_code": 200, "request_id": line_id, "body": body}
    return _line(line_id, custom_id, response, None)


def refusal_line(line_id: str, custom_id: str, error: ApiError) -> bytes:
    """Return a line of the error file, for a request that was refused or failed."""
    response = {"status_code": error.status, "request_id": line_id, "body": error.body}
    return _line(line_id, custom_id, response, None)


def missing_line(line_id: str, custom_id: str, reason: tuple[str, str]) -> bytes:
    """Return a line of the error file, for a request that was not executed."""
    code, message = reason
    return _line(line_id, custom_id, None, {"code": code, "message": message})


def _line(line_id: str, custom_id: str, response: Any, error: Any) -> bytes:
    told = {"id": f"batch_req_{line_id}", "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
