"""Four errors, each named for whoever is at fault. ``gsi/rpc/errors.py`` carries them over gRPC and back."""

from traceback import clear_frames

from gsi.limits import MAX_ERROR_BYTES


class InvalidRequestError(ValueError):
    """The caller is at fault. The message names the field and the values allowed. Never retried.

    A longer message than 2 KB is cut: it may quote what the caller wrote.
    """

    def __init__(self, message: str) -> None:
        super().__init__(cut_message(message))


class RetryableError(Exception):
    """Nobody is at fault: a service is loading, draining, full or slow. The same request may succeed later.

    ``retry_after_seconds``: when a full service wants the request again. ``is_deadline``: the service worked on the
    request and was too slow, so that retrying forever would not help. ``has_reached``: False if the request was never
    sent to the service.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        retry_after_seconds: float | None = None,
        is_deadline: bool = False,
        has_reached: bool = True,
    ) -> None:
        super().__init__(message)
        self.service = service
        self.retry_after_seconds = retry_after_seconds
        self.has_reached = has_reached
        self.is_deadline = is_deadline

    @property
    def is_away(self) -> bool:
        """Whether the service is unavailable, and not merely full or slow."""
        return bool(self.service) and not self.is_deadline and self.retry_after_seconds is None


class MisconfiguredError(Exception):
    """The operator is at fault: models, tokenizers or settings do not fit together. The process stops."""


class InternalError(Exception):
    """This code is at fault: a bug, here or in a service. The log of the process that raised it has the cause."""


def release(error: BaseException) -> None:
    """Let go of all that an error's frames hold, and those of its causes: calls and candidates of a step that failed.

    For an error that is kept while its job waits. A task group, its errors and its frames also refer to each other, so
    that they would stay until the garbage collector finds them.
    """
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is None or each.__traceback__ is None:
            continue
        clear_frames(each.__traceback__)
        each.__traceback__ = None
        errors += [each.__cause__, each.__context__, *(each.exceptions if isinstance(each, BaseExceptionGroup) else ())]


def cut_message(message: str) -> str:
    """Return what of an error's message may be stored, logged and shown: at most 2 KB."""
    written = message.encode(errors="replace")
    if len(written) <= MAX_ERROR_BYTES:
        return message
    end = "…"
    return written[: MAX_ERROR_BYTES - len(end.encode())].decode(errors="ignore") + end
