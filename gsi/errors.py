"""The library's four errors, named for whose fault it is. ``gsi/rpc/errors.py`` carries them over gRPC and back."""


class InvalidRequestError(ValueError):
    """The caller's fault: the message names the field and what is allowed. Never retried."""


class RetryableError(Exception):
    """Nobody's fault: a service is loading, draining, full or slow. The same request may succeed later."""

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
        self.has_reached = has_reached  # else the call never got to the service
        self.is_deadline = is_deadline  # it was working, and too slow: trying again for ever would not help

    @property
    def is_away(self) -> bool:
        """Whether the service is not there at all: neither full nor slow."""
        return bool(self.service) and not self.is_deadline and self.retry_after_seconds is None


class MisconfiguredError(Exception):
    """The operator's fault: models, tokenizers or settings that do not fit together. The process stops."""


class InternalError(Exception):
    """Our fault: a bug, here or in a service. The log of the process that raised it has the cause."""
