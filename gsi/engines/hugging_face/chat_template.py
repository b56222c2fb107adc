"""A checkpoint's chat template: the program that writes a conversation as the model was trained to read it.

Some templates refuse a system message, as Gemma's does, and some drop it without a word. Then the system's text goes in
front of the first message of the user, with an empty line between.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gsi.algorithm.candidates import Message
from gsi.engines.base import EngineSettings
from gsi.errors import InvalidRequestError, MisconfiguredError

PROBE = (Message("system", "qsystemq"), Message("user", "quserq"))  # words that no template writes by itself


class ChatTemplate:
    """The template of one tokenizer, or another one with its arguments, such as ``{"enable_thinking": false}``.

    ``given``: the template itself, or a file with it; "": the checkpoint's own.
    """

    def __init__(self, tokenizer: Any, given: str = "", arguments: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._arguments: dict[str, Any] = dict(arguments or {})
        if given:
            self._arguments["chat_template"] = _read_template(given)
        self._takes_system: bool | None = None  # None: not asked yet

    @property
    def exists(self) -> bool:
        return "chat_template" in self._arguments or bool(getattr(self._tokenizer, "chat_template", None))

    @property
    def takes_system(self) -> bool:
        """Whether the template writes the text of a system message."""
        if self._takes_system is None:
            try:
                self._takes_system = PROBE[0].content in self._apply(PROBE, add_generation_prompt=True)
            except InvalidRequestError:
                self._takes_system = False
        return self._takes_system

    def write(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation as text. Raises InvalidRequestError for messages that the template refuses."""
        if any(message.role == "system" for message in messages) and not self.takes_system:
            messages = merge_system(messages)
        return self._apply(messages, add_generation_prompt=add_generation_prompt)

    def _apply(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        if not self.exists:
            raise InvalidRequestError(
                "messages: the tokenizer has no chat template; allowed: a checkpoint that has one, or "
                "GSI_<ROLE>_CHAT_TEMPLATE with a template or its file"
            )
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=add_generation_prompt, **self._arguments
            )
        except Exception as error:  # the chat template is a program, written by the checkpoint's author
            raise InvalidRequestError(f"messages do not fit the model's chat template: {error}") from error
        return text


def merge_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return a conversation in which each system message stands in front of the next message of the user."""
    merged: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif message.role == "user" and waiting:
            merged.append(Message("user", "\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            merged.append(message)
    return (*merged, *(Message("user", text) for text in waiting))


def read_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return the arguments of the template. Raises MisconfiguredError unless they are a JSON object."""
    try:
        arguments = json.loads(settings.chat_template_args or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise MisconfiguredError(
            f"chat_template_args: {settings.chat_template_args} is no JSON object; "
            'allowed: one such as {"enable_thinking": false}'
        )
    return arguments


def _read_template(given: str) -> str:
    """Return the template. Jinja writes with braces, so a text without any is the name of a file."""
    if "{" in given:
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise MisconfiguredError(f"chat_template: {given}: {reason}; allowed: a template, or a file with one") from None
