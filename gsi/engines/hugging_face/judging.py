"""A judge's question as tokens: what stands behind the prefix, and the token of each label."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, fsum

from gsi.algorithm.judging import Question
from gsi.algorithm.ports import LabelProbabilities
from gsi.engines.base import ContextExceededError, check_prefix
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import InvalidRequestError
from gsi.limits import SHOWN_CHARACTERS

NUM_KEPT = 16  # questions of which an engine keeps the tokens: a deployment has a few prompts


@dataclass(frozen=True, slots=True)
class AskedPrefix:
    """A prefix with the question behind it. ``num_added`` of its tokens are the question's."""

    token_ids: tuple[int, ...]
    num_added: int
    label_ids: tuple[int, ...]

    def read(self, log_probabilities: Sequence[float], temperature: float = 1.0) -> LabelProbabilities:
        """Return the answer that the labels' log-probabilities (nats) mean; they were taken at ``temperature``.

        Log-probabilities are logits divided by the temperature, less a constant, which softmax over the labels ignores.
        """
        highest = max(log_probabilities)
        weights = [exp((value - highest) * temperature) for value in log_probabilities]
        return LabelProbabilities(tuple(weight / fsum(weights) for weight in weights), self.num_added)


class QuestionWriter:
    """Writes questions with the tokenizer and the chat template of one model."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, num_ids: int, eos_token_ids: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._num_ids = num_ids
        self._eos_token_ids = eos_token_ids
        self._tokens_of = lru_cache(maxsize=NUM_KEPT)(self._encode)

    async def ask(self, prefix: Sequence[int], question: Question) -> AskedPrefix:
        """Return the prefix with the question behind it.

        The end of an answer is not written twice. Raises InvalidRequestError for a label that is not one token of its
        own, and ContextExceededError, with the room for a prefix, if both together are longer than the context.
        """
        check_prefix(prefix, self._max_length, self._num_ids)
        added, label_ids = await asyncio.to_thread(self._tokens_of, question)
        if added[:1] == tuple(prefix[-1:]) and prefix[-1] in self._eos_token_ids:
            added = added[1:]
        if len(prefix) + len(added) > self._max_length:
            raise ContextExceededError(
                f"prefix has {len(prefix)} tokens and the judge's question {len(added)}; "
                f"allowed: at most {self._max_length} together, the model's context",
                room=max(0, self._max_length - len(added)),
            )
        return AskedPrefix((*prefix, *added), len(added), label_ids)

    def _encode(self, question: Question) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens of a question, and those of its labels."""
        opening = self._tokenizer.encode(question.opening)
        label_ids = tuple(self._encode_label(question.opening, label) for label in question.labels)
        if len(set(label_ids)) < len(label_ids):
            raise InvalidRequestError("labels: two of them are the same token; allowed: a token of its own for each")
        if not question.text:
            return opening, label_ids
        before, behind = self._tokenizer.render_question()
        return (*before, *self._tokenizer.encode(question.text), *behind, *opening), label_ids

    def _encode_label(self, opening: str, label: str) -> int:
        token_ids = self._tokenizer.encode_behind(opening, label)
        if len(token_ids) != 1:
            raise InvalidRequestError(
                f"labels: {label[:SHOWN_CHARACTERS]!r} is {len(token_ids)} tokens of this model; allowed: one token"
            )
        return token_ids[0]
