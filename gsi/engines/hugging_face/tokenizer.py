"""A Hugging Face tokenizer with its chat template: what the engines need of both."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from gsi.algorithm.candidates import Message
from gsi.errors import InvalidRequestError

transformers_logging.disable_progress_bar()  # the log of a service holds events


class Tokenizer:
    """The tokenizer and the chat template of one checkpoint."""

    def __init__(self, model: str, revision: str | None) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)

    @property
    def size(self) -> int:
        return len(self._tokenizer)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (token, id) pairs. With equal fingerprints an id names the same token."""
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    @property
    def bos_token(self) -> str:
        """The token that begins a sequence, as text; empty if the vocabulary has none."""
        return self._tokenizer.bos_token or ""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the exact text of the tokens. Control tokens, such as end of sequence, have no text."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None if the vocabulary does not have it."""
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the chat template, up to where the answer starts."""
        return self.encode(self._apply_template(messages, add_generation_prompt=True))

    def close_answer(self) -> tuple[int, ...]:
        """Return the token ids that the chat template writes behind an answer of the assistant."""
        answer = "an answer"
        conversation = (Message("user", "a question"), Message("assistant", answer))
        return self.encode(self._apply_template(conversation, add_generation_prompt=False).rpartition(answer)[2])

    def _apply_template(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # the chat template is a program, written by the checkpoint's author
            raise InvalidRequestError(f"messages do not fit the model's chat template: {error}") from error
        return text
