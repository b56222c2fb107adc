"""What an engine is: the ports of ``gsi.algorithm.ports``, a description of its model, a way to see that it died."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from pydantic import SecretStr

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import Judge, NoRoomError, Prm, Target, TokenBatches, TokenSequence
from gsi.errors import InvalidRequestError
from gsi.model_info import ModelInfo

STEP_DELIMITER = "\n\n"
SAME_AS_MODEL = "model"  # a last layer in the number format of the other weights


class ContextExceededError(InvalidRequestError, NoRoomError):
    """The caller is at fault: what a PRM or a judge is to read is longer than its context. It ends the answer."""

    def __init__(self, message: str, room: int = 0) -> None:
        InvalidRequestError.__init__(self, message)
        self.room = room


class Reading(StrEnum):
    """How a process reward model reads the steps (``docs/algorithm.md``)."""

    MODEL_CARD = "model-card"  # a mark behind each step
    AUTHORS = "authors"  # a mark behind each part of the text, as the code of GSI's and Skywork's authors does


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What every engine needs to load a model.

    ``head_dtype`` is the number format of a language model's last layer, which makes the logits.
    ``num_threads`` limits an engine on a CPU; None leaves the number to the runtime. ``engine_args`` are the runtime's
    own arguments, as on its command line. An engine that can report only one likelihood, at one temperature, reports
    ``likelihood`` at ``temperature``. ``reading`` and ``profile``, a name or a file, are for process reward models;
    with profile "" the checkpoint's own is found.
    ``chat_template``: a template, or a file with one, in place of the checkpoint's; ``chat_template_args``: JSON.
    The engine ``remote`` has no weights: it asks the server at ``remote_url``, waits for it at its start for
    ``remote_wait_seconds``, and for each answer for ``remote_timeout_seconds``. ``role`` is that of the service:
    "draft", "target", "prm", or "" without one.
    """

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    head_dtype: str = SAME_AS_MODEL
    num_threads: int | None = None
    engine_args: str = ""
    max_waiting_requests: int = 1024
    batching: bool = True
    prefix_cache_bytes: int = 2**28
    likelihood: Likelihood = Likelihood.SAMPLING
    temperature: float = SamplingParams().temperature
    reading: Reading = Reading.MODEL_CARD
    profile: str = ""
    chat_template: str = ""
    chat_template_args: str = ""
    role: str = ""
    remote_url: str | None = None
    remote_kind: str = "auto"
    remote_api_key: SecretStr | None = None
    remote_api_key_file: Path | None = None
    remote_timeout_seconds: float = 300.0
    remote_wait_seconds: float = 600.0


class Engine(Protocol):
    """A loaded model. Closing the iterator of a request stops the work on that request.

    The class of an engine has a coroutine ``load(settings)`` that returns the engine.
    """

    @property
    def info(self) -> ModelInfo: ...

    async def wait_until_dead(self) -> str:
        """Return the reason once the engine cannot work any more; wait for as long as it can."""
        ...

    def close(self) -> None:
        """Release the model and its threads. The engine must not be used afterwards."""
        ...


class Follower(Protocol):
    """A node that holds a share of the model and works for node 0, which serves. An engine over several nodes has them.

    The class of an engine that can be spread has a coroutine ``follow(settings)`` that returns the follower.
    """

    async def wait_until_dead(self) -> str:
        """Return the reason once this node cannot work any more or node 0 has gone."""
        ...

    def close(self) -> None:
        """Release this node's share of the model."""
        ...


E = TypeVar("E", bound=Engine)


class LanguageEngine(Engine, Target, Judge, Protocol):
    """A draft or target model. Raises InvalidRequestError for a prefix that leaves no room in the context.

    ``render`` may take seconds, and is called on any thread.
    """

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the model's chat template, up to where the answer starts."""
        ...

    def show(self, token_ids: Sequence[int]) -> str:
        """Return tokens as text for people to read, with the names of control tokens."""
        ...


class RewardEngine(Engine, Prm, Protocol):
    """A reward model. ``info.has_bounded_rewards`` says whether its rewards lie in [0, 1] or are any real numbers."""


def check_prefix(token_ids: Sequence[int], max_length: int, vocabulary_size: int) -> None:
    """Raise InvalidRequestError if a prefix is empty, fills the context, or has a token id outside the vocabulary."""
    check_prefix_length(len(token_ids), max_length)
    check_vocabulary(token_ids, vocabulary_size, "prefix")


def check_prefix_length(num_tokens: int, max_length: int) -> None:
    """Raise InvalidRequestError if a prefix is empty, or fills the context."""
    if not 1 <= num_tokens < max_length:
        raise InvalidRequestError(
            f"prefix has {num_tokens} tokens; allowed: 1 to {max_length - 1}, the model's context less one"
        )


def check_vocabulary(token_ids: Sequence[int], vocabulary_size: int, what: str) -> None:
    """Raise InvalidRequestError if a token id is outside the vocabulary: it would be read past the embedding."""
    if max(token_ids) >= vocabulary_size:
        raise InvalidRequestError(f"{what} has token id {max(token_ids)}; allowed: 0 to {vocabulary_size - 1}")


async def check_candidates(
    candidates: TokenBatches, num_prefix: int, max_length: int, vocabulary_size: int
) -> TokenBatches:
    """Pass candidates on.

    Raises InvalidRequestError if a candidate is empty, is too long, or has a token id outside the vocabulary.
    """
    async for batch in candidates:
        for candidate in batch:
            _check_candidate(candidate, num_prefix, max_length, vocabulary_size)
        yield batch


def _check_candidate(candidate: TokenSequence, num_prefix: int, max_length: int, vocabulary_size: int) -> None:
    if not 1 <= len(candidate.token_ids) <= max_length - num_prefix:
        raise InvalidRequestError(
            f"candidate has {len(candidate.token_ids)} tokens; allowed: 1 to {max_length - num_prefix}, "
            "the model's context less the prefix"
        )
    check_vocabulary(candidate.token_ids, vocabulary_size, "candidate")


def check_length(num_tokens: int, max_length: int, num_prefix: int | None = None) -> None:
    """Raise ContextExceededError if a trajectory and its candidate are longer than a PRM's context.

    ``num_prefix``: the tokens in front of the candidate, if they are known; the error says how many are left behind it.
    """
    if num_tokens > max_length:
        raise ContextExceededError(
            f"prompt, steps and candidate have {num_tokens} tokens for the PRM; "
            f"allowed: at most {max_length}, its context",
            room=0 if num_prefix is None else max(0, max_length - num_prefix),
        )


def check_likelihood(sampling: SamplingParams) -> None:
    """Raise InvalidRequestError if the request wants likelihoods under greedy decoding, which has none to compare.

    The sampling law of greedy decoding has one token at each place: the log-likelihood of every other candidate is
    -inf, and no ratio is left.
    """
    if sampling.temperature == 0 and sampling.likelihood is Likelihood.SAMPLING:
        raise InvalidRequestError(
            "sampling.temperature is 0, greedy, which has no likelihood to score candidates by; "
            "allowed: above 0, or likelihood model"
        )


async def wait_forever() -> NoReturn:
    """Wait until cancelled. An engine in this process cannot die without the process."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")
