"""The errors of ``gsi.errors`` as gRPC status codes, and status codes as those errors.

| error                                      | status              |
|--------------------------------------------|---------------------|
| InvalidRequestError                        | INVALID_ARGUMENT    |
| ContextExceededError                       | OUT_OF_RANGE        |
| MisconfiguredError                         | FAILED_PRECONDITION |
| RetryableError of a deadline               | DEADLINE_EXCEEDED   |
| CallerRefusedError                         | PERMISSION_DENIED   |
| RetryableError with a time to come back    | RESOURCE_EXHAUSTED  |
| RetryableError                             | UNAVAILABLE         |
| anything else                              | INTERNAL, without the exception's text |
"""

from collections.abc import Iterable, Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from gsi.engines.base import ContextExceededError
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.rpc.callers import CallerRefusedError

ROOM_KEY = "gsi-room"  # how many tokens a PRM has left for a candidate
STATUS_DETAILS_KEY = "grpc-status-details-bin"  # where gRPC carries google.rpc.Status

RETRYABLE_CODES = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server that stops; a client that cancels gets CancelledError instead
    grpc.StatusCode.UNIMPLEMENTED,  # by a replica of an older release, which lacks the call; another may have it
)

STATUS_OF: Mapping[type[Exception], grpc.StatusCode] = {  # of an error without metadata
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    MisconfiguredError: grpc.StatusCode.FAILED_PRECONDITION,
    CallerRefusedError: grpc.StatusCode.PERMISSION_DENIED,
}

# How gRPC's details begin if there was no replica to send the call to.
NEVER_SENT = ("connections to all backends failing", "failed to connect", "errors resolving", "DNS resolution failed")

# The details in grpc.aio of a stream whose server went away while the client was writing (grpc issue 36066).
LOST_WHILE_WRITING = "Internal error from Core"

# In gRPC's details of a message over the limit on either side, under RESOURCE_EXHAUSTED: no later call would pass.
TOO_LARGE = "eceived message larger than max"

Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]


def to_status(error: Exception) -> Status:
    """Return status code, message and trailing metadata for an error that a servicer raised."""
    if isinstance(error, ContextExceededError):
        return grpc.StatusCode.OUT_OF_RANGE, str(error), ((ROOM_KEY, str(error.room)),)
    for kind, code in STATUS_OF.items():
        if isinstance(error, kind):
            return code, str(error), ()
    match error:
        case RetryableError(retry_after_seconds=None, is_deadline=is_deadline):
            return (grpc.StatusCode.DEADLINE_EXCEEDED if is_deadline else grpc.StatusCode.UNAVAILABLE), str(error), ()
        case RetryableError(retry_after_seconds=float() as seconds):
            return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), _retry_info(str(error), seconds)
        case _:
            return grpc.StatusCode.INTERNAL, "internal error; the service's log has it", ()


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> Exception:
    """Return the error of ``gsi.errors`` for a failed call to ``service``."""
    code, details = error.code(), error.details() or "no details"
    if TOO_LARGE in details:
        return InvalidRequestError(f"{service}: {details}")
    if code in RETRYABLE_CODES or (code is grpc.StatusCode.INTERNAL and details == LOST_WHILE_WRITING):
        retry_after = _retry_after_seconds(error.trailing_metadata() or ())
        return RetryableError(
            f"{service}: {reason_of(error)}",
            service=service,
            retry_after_seconds=retry_after,
            is_deadline=code is grpc.StatusCode.DEADLINE_EXCEEDED,
            has_reached=not details.startswith(NEVER_SENT),
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:  # until an operator mends it, which costs a job no attempt
        return RetryableError(f"{service}: {reason_of(error)}", service=service, has_reached=False)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
        return _refusal(error, details)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return MisconfiguredError(f"{service}: {details}")
    return InternalError(f"{service}: {code.name}: {details}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return status code and details, with an explanation where gRPC's own words do not tell the cause."""
    details = error.details() or "no details"
    if details.startswith(NEVER_SENT) and details.endswith("Socket closed"):  # how gRPC refuses a handshake
        details += "; it refuses connections: it may want TLS, or not trust our certificate; its log says why"
    if details.startswith(NEVER_SENT) and details.endswith("backend unhealthy"):
        details += "; it takes no calls: it is loading its model, or about to stop"
    return f"{error.code().name}: {details}"


def _refusal(error: grpc.aio.AioRpcError, details: str) -> InvalidRequestError:
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequestError(details)
    told = next((value for key, value in error.trailing_metadata() or () if key == ROOM_KEY), "")
    return ContextExceededError(details, int(told) if told.isdigit() else 0)


def _retry_info(message: str, seconds: float) -> tuple[tuple[str, bytes], ...]:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=message, details=[packed])
    return ((STATUS_DETAILS_KEY, status.SerializeToString()),)


def _retry_after_seconds(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    details = next((value for key, value in metadata if key == STATUS_DETAILS_KEY), None)
    if not isinstance(details, bytes):
        return None
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None
