"""The messages of a call as they come in: each is waited for, received and decoded only when it is asked for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from gsi.errors import InvalidRequestError, RetryableError
from gsi.limits import FIRST_MESSAGE_SECONDS


async def decode_messages(raw: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> AsyncGenerator[Any, None]:
    """Yield the messages of a call. The first must come soon; the deadline of the whole call covers the others.

    Raises RetryableError for a first message that does not come, InvalidRequestError for bytes that are no message.
    """
    received = await _receive_first(raw)
    while received is not None:
        yield _decode(received, decode)
        received = await anext(raw, None)


async def _receive_first(raw: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            return await anext(raw, None)
    except TimeoutError:
        text = f"the call's first message did not come within {FIRST_MESSAGE_SECONDS:g} s"
        raise RetryableError(text, is_deadline=True) from None


def _decode(received: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(received)
    except DecodeError:
        raise InvalidRequestError(
            "request: its bytes are not the method's message; allowed: the messages of protos/gsi/v1"
        ) from None
