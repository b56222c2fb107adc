"""The payload of a job, which a program in any language can push. Its JSON Schema is ``docs/job.schema.json``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from gsi.algorithm.candidates import Message
from gsi.errors import InvalidRequestError
from gsi.jobs.job_params import JobParams
from gsi.jobs.keys import DEFAULT_TENANT, Priority
from gsi.limits import JOB_ID_PATTERN, MAX_MESSAGES, MAX_PROMPT_CHARACTERS

# A release that adds a field or a value raises this number, and its clients write the least ``v`` that knows all that a
# payload uses. A coordinator that reads a smaller one leaves the job to others: decision 0042.
PAYLOAD_FORMAT = 1
TENANT_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
TRACEPARENT_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"  # W3C Trace Context, version 0


def _check_traceparent(traceparent: str) -> str:
    _, trace_id, span_id, _ = traceparent.split("-")
    if not (trace_id.strip("0") and span_id.strip("0")):
        raise InvalidRequestError(f"traceparent: {traceparent} names no span; allowed: ids that are not all zeros")
    return traceparent


Traceparent = Annotated[str, StringConstraints(pattern=TRACEPARENT_PATTERN), AfterValidator(_check_traceparent)]


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["system", "user", "assistant"] = Field(description="Who speaks.")
    content: str = Field(max_length=MAX_PROMPT_CHARACTERS, description="What is said.")


def _require_one_question(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that a job has either a prompt or messages."""
    schema["oneOf"] = [
        {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
        {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
    ]


class JobPayload(BaseModel):
    """The JSON in field ``job`` of a stream entry. Its JSON Schema is ``docs/job.schema.json``."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, title="GSI job, version 1", json_schema_extra=_require_one_question
    )

    v: Literal[1] = Field(1, description="Version of this format.")
    id: str | None = Field(
        None,
        pattern=JOB_ID_PATTERN,
        description="The job's id; null: the id of its stream entry. A job that is pushed twice with one id runs once.",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="The user's question; null: messages has the conversation.",
    )
    system: str | None = Field(
        None,
        max_length=MAX_PROMPT_CHARACTERS,
        description="A system message before the prompt; null: the chat template's own.",
    )
    messages: list[ChatMessage] | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGES,
        validate_default=True,
        description="A conversation that ends with a message of the user, in place of prompt and system; null: none.",
    )
    params: JobParams = JobParams()
    priority: Priority = Field(
        Priority.NORMAL,
        strict=False,
        description="Lane for the SDK; a program that pushes by XADD chooses the stream instead.",
    )
    tenant: str = Field(DEFAULT_TENANT, pattern=TENANT_PATTERN, description="The tenant that the job belongs to.")
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="For a day, the SDK runs only the first job with this key of this tenant.",
    )
    deadline_seconds: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        description="Seconds from submission after which an unfinished job is EXPIRED; null: none.",
    )
    result_ttl_seconds: float | None = Field(
        None, ge=1, le=31_536_000, description="Seconds for which the result can be read; null: the queue's default."
    )

    traceparent: Traceparent | None = Field(
        None, description="W3C Trace Context of the submitter; null: the job starts its own trace."
    )

    @field_validator("messages")
    @classmethod
    def _check_question(cls, messages: list[ChatMessage] | None, info: ValidationInfo) -> list[ChatMessage] | None:
        """Refuse a job that asks nothing, or asks twice. A prompt that is wrong in itself is not in ``info.data``."""
        prompt, system = info.data.get("prompt", ""), info.data.get("system")
        if messages is None:
            if prompt is None:
                raise InvalidRequestError(
                    f"prompt: missing; allowed: text of 1 to {MAX_PROMPT_CHARACTERS} characters, "
                    "or messages in its place"
                )
            return None
        if prompt or system is not None:
            raise InvalidRequestError(
                f"messages: {'prompt' if prompt else 'system'} is given, too; allowed: messages alone, or a prompt"
            )
        if messages[-1].role != "user":
            raise InvalidRequestError(
                f"messages.{len(messages) - 1}.role: the last message is of role {messages[-1].role}; allowed: user"
            )
        return messages

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages that the chat template renders."""
        if self.messages is not None:
            return tuple(Message(message.role, message.content) for message in self.messages)
        system = (Message("system", self.system),) if self.system is not None else ()
        return (*system, Message("user", self.prompt or ""))
