"""The bodies of requests, as OpenAI's clients send them. A field that changes the answer is obeyed or refused."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.errors import ApiError, refuse

MAX_CHOICES = 16
GSI_PREFIX = "gsi_"

# Fields that this system does not serve, with the values that ask for nothing.
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "access_programs": (),
    "audio": (),
    "background_options": (),
    "best_of": (1,),
    "context_management": (),
    "conversation": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "image": (),
    "include": ([], ["reasoning.encrypted_content"]),  # to send reasoning back, which no prompt has
    "logit_bias": ({},),
    "logprobs": (False,),
    "max_tool_calls": (),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({}, {"summary": "auto"}),  # "auto": such as there is
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "text": ({"format": {"type": "text"}}, {}),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
    "verbosity": (),
    "web_search_options": (),
}
TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
CACHE_HINTS: Final = frozenset({"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"})
IGNORED: Final = frozenset({"user", "metadata", "safety_identifier"}) | CACHE_HINTS  # they ask for nothing
ECHOED: Final = frozenset(
    {"reasoning", "reasoning_content"}
)  # of an answer that comes back: it is not part of a prompt


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(BaseModel):
    """What both kinds of completion share."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="A name that `GET /v1/models` lists.")
    stream: bool | None = Field(None, description="Send each step as it is kept, as server-sent events.")
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, description="Most tokens of an answer.")
    temperature: float | None = Field(None, description="0 asks for a repeatable answer: see docs/gateway.md.")
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = Field(None, description="Texts before which the answer ends.")
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Number of answers; each is a job.")
    user: str | None = None
    metadata: dict[str, Any] | None = None
    gsi: dict[str, Any] | None = Field(
        None,
        description="Parameters of a job (docs/job.schema.json), and `steps`, `keep`, `priority`, `deadline_seconds`, "
        "`result_ttl_seconds`. Flat, each has the prefix `gsi_`.",
    )

    def token_limits(self) -> dict[str, int | None]:
        """Return the limits on an answer's tokens, by their names in the request, the newest last."""
        return {"max_tokens": self.max_tokens}

    def gsi_options(self) -> dict[str, Any]:
        """Return GSI's own options, nested and flat. Raises ApiError for what is unknown or unsupported."""
        options = dict(self.gsi or {})
        for name, value in (self.model_extra or {}).items():
            if name.startswith(GSI_PREFIX):
                option = name.removeprefix(GSI_PREFIX)
                if options.setdefault(option, value) != value:
                    raise refuse(name, f"gsi.{option} says otherwise; allowed: one of both")
            else:
                check_extra(name, value)
        return options


class ContentPart(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[ContentPart] | None = None


class ChatCompletionRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, description="The newer name of `max_tokens`.")

    def token_limits(self) -> dict[str, int | None]:
        return {**super().token_limits(), "max_completion_tokens": self.max_completion_tokens}


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`: the prompt is a message of the user, since the models answer by a chat template."""

    prompt: str | list[str]


class InputItem(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "message"
    role: str = "user"
    content: str | list[ContentPart] | None = None


class ResponseRequest(GenerationRequest):
    """`POST /v1/responses`."""

    input: str | list[InputItem]
    instructions: str | None = Field(None, description="A system message before the input.")
    max_output_tokens: int | None = Field(None, description="Most tokens of the answer.")
    background: bool | None = Field(None, description="Return at once; `GET /v1/responses/{id}` has the answer.")
    store: bool | None = Field(None, description="Whether the response can be retrieved; true unless it says false.")
    previous_response_id: str | None = Field(None, description="A completed response, whose conversation goes on.")

    def token_limits(self) -> dict[str, int | None]:
        return {**super().token_limits(), "max_output_tokens": self.max_output_tokens}


def check_extra(name: str, value: Any) -> None:
    """Raise ApiError for a field that we do not know, or do not serve with this value."""
    if name in IGNORED:
        return
    if name in NEUTRAL:
        given = _without_nulls(value)
        if given is None or given in NEUTRAL[name]:
            return
        raise refuse(name, "not supported by this server", "unsupported_parameter")
    raise refuse(name, "unknown; GSI's own options are in gsi, or have the prefix gsi_", "unknown_parameter")


def read_instructions(request: ResponseRequest) -> list[dict[str, str]]:
    """Return the system message of a response, if it has one."""
    return [{"role": "system", "content": request.instructions}] if request.instructions is not None else []


def read_input(request: ResponseRequest) -> list[dict[str, str]]:
    """Return the messages of a response's input. Raises ApiError for what this system does not serve."""
    if (request.n or 1) != 1:
        raise refuse("n", f"{request.n} is not allowed; allowed: 1")
    if isinstance(request.input, str):
        return [{"role": "user", "content": request.input}]
    items = [(f"input[{number}]", item) for number, item in enumerate(request.input)]
    return [_read_item(place, item) for place, item in items if item.type not in ECHOED]


def _read_item(place: str, item: InputItem) -> dict[str, str]:
    if item.type != "message":
        raise refuse(f"{place}.type", f'"{item.type[:20]}" is not supported; allowed: message', "unsupported_parameter")
    extra = {name: value for name, value in (item.model_extra or {}).items() if name not in {"id", "status"}}
    return _read_message(place, ChatMessage(role=item.role, content=item.content, **extra))


def read_messages(messages: list[ChatMessage]) -> list[dict[str, str]]:
    """Return the messages of a job. Raises ApiError for a role or a content that this system does not serve."""
    return [_read_message(f"messages[{number}]", message) for number, message in enumerate(messages)]


def _read_message(place: str, message: ChatMessage) -> dict[str, str]:
    for name, value in (message.model_extra or {}).items():
        is_echo = message.role == "assistant" and name in ECHOED
        if not is_echo and _without_nulls(value) not in (None, [], {}):
            raise refuse(f"{place}.{name}", "not supported by this server", "unsupported_parameter")
    role = "system" if message.role == "developer" else message.role
    if role not in {"system", "user", "assistant"}:
        raise refuse(f"{place}.role", f'"{message.role[:20]}" is not supported; allowed: system, user, assistant')
    return {"role": role, "content": _read_content(place, message.content)}


def _read_content(place: str, content: str | list[ContentPart] | None) -> str:
    if content is None:
        raise refuse(f"{place}.content", "missing; allowed: text")
    if isinstance(content, str):
        return content
    for number, part in enumerate(content):
        if part.type not in TEXT_PARTS or part.text is None:
            raise refuse(
                f"{place}.content[{number}].type",
                f'"{part.type[:20]}" is not supported; allowed: text',
                "unsupported_parameter",
            )
    return "".join(part.text or "" for part in content)


def _without_nulls(value: Any) -> Any:
    """Return a value without the entries of objects that are null: a client writes each field that its object has."""
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(each) for name, each in value.items() if each is not None}


def first_error(errors: list[Any]) -> ApiError:
    """Return the refusal of a body that is not as its model says."""
    error = errors[0]
    place = list(error["loc"][error["loc"][:1] in {("body",), ("query",), ("path",)} :])
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if error["type"] == "json_invalid" or not name:
        return ApiError(400, "the body is not a JSON object")
    return refuse(name, error["msg"][:1].lower() + error["msg"][1:])
