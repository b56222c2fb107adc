"""What was said up to each response, so that the next one can go on (``previous_response_id``).

A response's conversation is kept whole, so that a chain goes on when its earlier responses, or their jobs, are gone.
Instructions are not part of it: they hold for one response alone.
"""

import json
from typing import Final

from gsi.jobs.documents import Documents
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from gsi.limits import MAX_MESSAGES
from services.gateway.answers import message_of
from services.gateway.errors import ApiError, refuse

MAX_CHARACTERS: Final = 1_000_000  # of a conversation
FIELD: Final = "previous_response_id"

Messages = list[dict[str, str]]


class Conversations:
    """The conversations of responses, by tenant and by the response's id."""

    def __init__(self, store: Documents) -> None:
        self._store = store

    async def save(self, tenant: str, response_id: str, messages: Messages, lifetime_seconds: float) -> None:
        """Keep what was said up to a response, its own input included."""
        await self._store.save(tenant, response_id, json.dumps(messages, ensure_ascii=False), lifetime_seconds)

    async def continue_from(self, tenant: str, response_id: str, record: JobRecord) -> Messages:
        """Return what was said up to a response and its answer, which its job ``record`` has.

        Raises ApiError 400 for a response that has no answer, and for one whose conversation is not kept.
        """
        if record.state is not JobState.SUCCEEDED:
            state = record.state.lower()
            message = (
                f"response {response_id} has no answer to go on from: its job is {state}; allowed: a completed one"
            )
            raise refuse(FIELD, message, "previous_response_not_completed")
        kept = await self._store.load(tenant, response_id)
        if kept is None:
            raise not_found(response_id)
        said: Messages = json.loads(kept)
        return [*said, {"role": "assistant", "content": message_of(record).content}]

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget what was said up to a response. Later responses go on."""
        await self._store.delete(tenant, response_id)


def check_size(messages: Messages) -> None:
    """Raise ApiError 400 for a conversation that has grown too long."""
    num_characters = sum(len(message["content"]) for message in messages)
    if len(messages) > MAX_MESSAGES or num_characters > MAX_CHARACTERS:
        message = (
            f"the conversation has {len(messages)} messages and {num_characters} characters; "
            f"allowed: {MAX_MESSAGES} messages and {MAX_CHARACTERS} characters"
        )
        raise refuse(FIELD, message, "conversation_too_long")


def not_found(response_id: str) -> ApiError:
    """Return the refusal of a response to go on from that is not there."""
    message = f"no response {response_id[:100]}; allowed: one that was stored and has not been deleted or expired"
    return refuse(FIELD, message, "previous_response_not_found")
