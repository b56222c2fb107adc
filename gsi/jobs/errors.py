"""What a user of a queue is told. Each is one of the four errors of ``gsi/errors.py``, which say who is at fault."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError

LOST_CONNECTION = (RedisConnectionError, RedisTimeoutError)  # the server is unavailable
REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)  # wrong credentials, or too few rights


class UnknownJobError(InvalidRequestError):
    """No job has this id (``job_id``): it was never pushed, or was deleted, or its lifetime has ended."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class UnknownNamesError(InvalidRequestError):
    """A payload has names that this release does not know, and nothing else is wrong with it."""


class NewerReleaseError(MisconfiguredError):
    """What a job has kept cannot be read by this release: a newer one wrote it. The message says what, and the fix."""


class OtherModelsError(MisconfiguredError):
    """A queue is served with other models than those of this coordinator."""


class JobConflictError(InvalidRequestError):
    """A job of this id (``job_id``) exists, and its payload is another."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"id: job {job_id} exists with another payload; allowed: the same payload, or another id")
        self.job_id = job_id


class QueueFullError(RetryableError):
    """The queue has as many jobs as its limit allows (``num_jobs``); ``retry_after_seconds``: when to come back."""

    retry_after_seconds: float

    def __init__(self, queue: str, num_jobs: int, retry_after_seconds: float) -> None:
        super().__init__(
            f"queue {queue} is full: {num_jobs} jobs; come back in {retry_after_seconds:.0f} s",
            retry_after_seconds=retry_after_seconds,
        )
        self.num_jobs = num_jobs


class RedisUnavailableError(RetryableError, RedisConnectionError):
    """Redis does not answer. The client has tried for about three seconds."""


class RedisRefusedError(MisconfiguredError, AuthenticationError):
    """Redis refuses the credentials, or this user may not do what was asked."""


class WaitTimeoutError(TimeoutError):
    """Jobs did not finish in time. ``job_ids``: those that had not."""

    def __init__(self, message: str, job_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.job_ids = job_ids


@contextmanager
def name_server(place: str) -> Iterator[None]:
    """Raise RedisRefusedError or RedisUnavailableError, which name the server, instead of redis-py's errors."""
    try:
        yield
    except REFUSED as error:
        raise RedisRefusedError(f"{place}: {error}") from error
    except LOST_CONNECTION as error:
        raise RedisUnavailableError(f"{place} is unavailable: {error}") from error
