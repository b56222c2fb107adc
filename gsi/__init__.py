"""Guided Speculative Inference (GSI) as a system: the library. ``from gsi import Client, AsyncClient``.

No process starts here (see ``services/``). Importing ``gsi`` imports nothing; a name is imported when it is asked for.
Read next: ``docs/lifecycle.md``, then ``gsi/algorithm/methods/gsi.py``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsi.client.blocking import Client
    from gsi.client.sdk import AsyncClient
    from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
    from gsi.jobs.errors import (
        JobConflictError,
        NewerReleaseError,
        QueueFullError,
        RedisRefusedError,
        RedisUnavailableError,
        UnknownJobError,
        WaitTimeoutError,
    )
    from gsi.jobs.job_params import JobParams
    from gsi.jobs.listing import JobSummary
    from gsi.jobs.payload import JobPayload
    from gsi.jobs.reader import JobRecord
    from gsi.jobs.state import JobState
    from gsi.jobs.step_record import StepRecord

    __version__: str

_PLACES = {
    "AsyncClient": "gsi.client.sdk",
    "Client": "gsi.client.blocking",
    "InternalError": "gsi.errors",
    "InvalidRequestError": "gsi.errors",
    "JobConflictError": "gsi.jobs.errors",
    "JobParams": "gsi.jobs.job_params",
    "JobPayload": "gsi.jobs.payload",
    "JobRecord": "gsi.jobs.reader",
    "JobState": "gsi.jobs.state",
    "JobSummary": "gsi.jobs.listing",
    "MisconfiguredError": "gsi.errors",
    "NewerReleaseError": "gsi.jobs.errors",
    "QueueFullError": "gsi.jobs.errors",
    "RedisRefusedError": "gsi.jobs.errors",
    "RedisUnavailableError": "gsi.jobs.errors",
    "RetryableError": "gsi.errors",
    "StepRecord": "gsi.jobs.step_record",
    "UnknownJobError": "gsi.jobs.errors",
    "WaitTimeoutError": "gsi.jobs.errors",
}

__all__ = [
    "AsyncClient",
    "Client",
    "InternalError",
    "InvalidRequestError",
    "JobConflictError",
    "JobParams",
    "JobPayload",
    "JobRecord",
    "JobState",
    "JobSummary",
    "MisconfiguredError",
    "NewerReleaseError",
    "QueueFullError",
    "RedisRefusedError",
    "RedisUnavailableError",
    "RetryableError",
    "StepRecord",
    "UnknownJobError",
    "WaitTimeoutError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata  # noqa: PLC0415 (metadata takes longer to import than gsi)

    if name == "__version__":
        try:
            return metadata.version(import_module("gsi.runtime.installation").DISTRIBUTION)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            return "0"
    if name not in _PLACES:
        raise AttributeError(f"module 'gsi' has no attribute {name!r}")
    found = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found  # the next time it is found at once
    return found


def __dir__() -> list[str]:
    return __all__
