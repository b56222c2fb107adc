"""What engines ask of a Hugging Face tokenizer."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from gsi.algorithm.candidates import Message
from gsi.errors import InvalidRequestError

transformers_logging.disable_progress_bar()  # a service's log is for events


class Tokenizer:
    """A checkpoint's own tokenizer and chat template."""

    def __init__(self, model: str, revision: str | None) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)

    @property
    def size(self) -> int:
        return len(self._tokenizer)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (token, id) pairs: equal fingerprints mean that ids name the same tokens."""
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    @property
    def bos_token(self) -> str:
        """The token that begins a sequence, as text; empty if the vocabulary has none."""
        return self._tokenizer.bos_token or ""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the exact text of the tokens; end-of-sequence and other control tokens have none."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def token_id(self, token: str) -> int | None:
        """Return the id of one token of the vocabulary, or None if it has no such token."""
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the conversation by the chat template, up to where the answer starts."""
        return self.encode(self._templated(messages, add_generation_prompt=True))

    def closing_of_answer(self) -> tuple[int, ...]:
        """Return what the chat template writes behind an answer of the assistant."""
        answer = "an answer"
        conversation = (Message("user", "a question"), Message("assistant", answer))
        return self.encode(self._templated(conversation, add_generation_prompt=False).rpartition(answer)[2])

    def _templated(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # a template is a program of the checkpoint's author
            raise InvalidRequestError(f"messages do not fit the model's chat template: {error}") from error
        return text
