"""A Hugging Face tokenizer with its chat template: what the engines need of both.

What users and models wrote is tokenised without control tokens: ``<|im_end|>`` in a prompt is ten characters. Only the
chat template writes control tokens. So each of their names in a message is hidden from the template and the tokenizer
behind a random word, and comes back as plain text.
"""

import copy
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from gsi.algorithm.candidates import Message
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.chat_template import ChatTemplate, read_arguments
from gsi.errors import InvalidRequestError

transformers_logging.disable_progress_bar()  # the log of a service holds events


class Tokenizer:
    """The tokenizer and the chat template of one checkpoint, or another template with its arguments.

    Raises MisconfiguredError if the file of the template is not there.
    """

    def __init__(
        self,
        model: str,
        revision: str | None,
        chat_template: str = "",
        chat_template_args: Mapping[str, Any] | None = None,
    ) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
        self._template = ChatTemplate(self._tokenizer, chat_template, chat_template_args)
        # Whether names become control tokens is a state. It must not change later: several threads may encode.
        self._plain = copy.deepcopy(self._tokenizer)
        self._plain("", split_special_tokens=True)
        self._control = dict(zip(self._tokenizer.all_special_ids, self._tokenizer.all_special_tokens, strict=True))
        self._control |= {i: str(token) for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        if self._tokenizer.unk_token_id not in (self._tokenizer.eos_token_id, self._tokenizer.bos_token_id):
            self._control.pop(self._tokenizer.unk_token_id, None)  # an unknown word is text
        names = sorted(self._control.values(), key=len, reverse=True)  # the longest that fits, as the tokenizer does
        self._control_name = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    @classmethod
    def load(cls, settings: EngineSettings) -> "Tokenizer":
        """Load the tokenizer of an engine's checkpoint, with the template that the settings name."""
        return cls(settings.model, settings.revision, settings.chat_template, read_arguments(settings))

    @property
    def size(self) -> int:
        return len(self._tokenizer)

    @property
    def num_ids(self) -> int:
        """One more than the largest id that names a token. A model's last layer is often wider."""
        largest: int = max(self._tokenizer.get_vocab().values())
        return largest + 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (token, id) pairs. With equal fingerprints an id names the same token."""
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()

    @property
    def begin_token_ids(self) -> tuple[int, ...]:
        """The token that begins a sequence; empty if the vocabulary has none."""
        found = self._tokenizer.bos_token_id
        return () if found is None else (found,)

    @property
    def end_token_id(self) -> int | None:
        """The token that ends a sequence, as the tokenizer's own files name it."""
        found: int | None = self._tokenizer.eos_token_id
        return found

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text that somebody wrote. None is a control token."""
        token_ids = tuple(self._plain(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        self._refuse_control(token_ids, 0)
        return token_ids

    def encode_behind(self, before: str, text: str) -> tuple[int, ...]:
        """Return the token ids of ``text`` as the tokenizer reads it behind ``before``, as far as the two do not merge.

        Some tokenizers put a space before whatever they read; behind another text they do not.
        """
        head, whole = self.encode(before), self.encode(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the exact text of the tokens. Control tokens, such as end of sequence, have no text."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def show(self, token_ids: Sequence[int]) -> str:
        """Return the tokens as text for people to read, with the names of control tokens."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None if the vocabulary does not have it."""
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def choose_end(self, *named: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return the tokens that end an answer: by the first file that names any, else the tokenizer's; or none."""
        for found in (*named, self._tokenizer.eos_token_id):
            if found is not None and found != []:
                return (found,) if isinstance(found, int) else tuple(found)
        return ()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the chat template, up to where the answer starts."""
        return self._render(messages, is_open=False)

    def render_open(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the chat template, up to the end of the last message's text."""
        return self._render(messages, is_open=True)

    def render_turn(self, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the token ids between two turns of the user, and those behind the last turn.

        The assistant says ``answer`` between the two turns; behind the last turn its answer would start.
        """
        first, second = secrets.token_hex(16), secrets.token_hex(16)
        turns = (Message("user", first), Message("assistant", answer), Message("user", second))
        text = self._apply_template(turns, add_generation_prompt=True).partition(first)[2]
        between, _, closing = text.partition(second)
        return self._encode_markup(between), self._encode_markup(closing)

    def render_question(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the token ids between an answer of the assistant and a turn of the user, and those behind that turn.

        Behind the turn the next answer would start. Raises InvalidRequestError if the template writes no such turn.
        """
        first, answer, second = (secrets.token_hex(16) for _ in range(3))
        turns = (Message("user", first), Message("assistant", answer), Message("user", second))
        text = self._apply_template(turns, add_generation_prompt=True).partition(answer)[2]
        between, has_turn, closing = text.partition(second)
        if not has_turn:
            raise InvalidRequestError(
                "question: the model's chat template writes no turn of the user behind an answer; allowed: a template "
                "that does, by GSI_<ROLE>_CHAT_TEMPLATE"
            )
        return self._encode_markup(between), self._encode_markup(closing)

    def _render(self, messages: Sequence[Message], *, is_open: bool) -> tuple[int, ...]:
        hidden = _HiddenNames(self._control_name)
        kept = [Message(message.role, hidden.hide(message.content)) for message in messages]
        end = secrets.token_hex(16)
        if is_open:
            kept[-1] = Message(kept[-1].role, kept[-1].content + end)
        text = self._apply_template(kept, add_generation_prompt=not is_open)
        parts = hidden.split(text.partition(end)[0])
        token_ids: list[int] = []
        for position, part in enumerate(parts):  # by turns: what the template wrote, and a name that a user wrote
            token_ids += self.encode(part) if position % 2 else self._encode_markup(part)
        return tuple(token_ids)

    def close_answer(self) -> tuple[int, ...]:
        """Return the token ids that the chat template writes behind an answer of the assistant."""
        answer = "an answer"
        conversation = (Message("user", "a question"), Message("assistant", answer))
        text = self._apply_template(conversation, add_generation_prompt=False)
        return self._encode_markup(text.rpartition(answer)[2])

    def _encode_markup(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text in which the names of control tokens stand for control tokens."""
        token_ids = tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        self._refuse_control(token_ids, len(self._control_name.findall(text)))
        return token_ids

    def _refuse_control(self, token_ids: Sequence[int], num_allowed: int) -> None:
        """Raise InvalidRequestError for more control tokens than allowed, which normalising a text may give."""
        found = [token_id for token_id in token_ids if token_id in self._control]
        if len(found) > num_allowed:
            raise InvalidRequestError(
                f"text: the tokenizer reads some of it as the control token {self._control[found[0]]}; allowed: text "
                "that it reads as text"
            )

    def _apply_template(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        return self._template.write(messages, add_generation_prompt=add_generation_prompt)


class _HiddenNames:
    """The names of control tokens in what users wrote, each behind a word that nobody can guess."""

    def __init__(self, names: re.Pattern[str]) -> None:
        self._names = names
        self._word = secrets.token_hex(16)
        self._hidden: list[str] = []

    def hide(self, text: str) -> str:
        """Return the text with a word in place of each name."""
        return self._names.sub(self._replace, text)

    def _replace(self, found: re.Match[str]) -> str:
        self._hidden.append(found.group())
        return f"{self._word}n{len(self._hidden) - 1}n"

    def split(self, text: str) -> list[str]:
        """Return a text that has the words as its parts: plain parts at even places, at odd places the names."""
        parts = re.split(rf"{self._word}n(\d+)n", text)
        return [self._hidden[int(part)] if position % 2 else part for position, part in enumerate(parts)]
