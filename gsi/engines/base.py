"""What an engine is: the ports of ``gsi.algorithm.ports``, and a description of the model behind them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import Prm, Target
from gsi.errors import InvalidRequestError
from gsi.model_info import ModelInfo

STEP_DELIMITER = "\n\n"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What every engine needs to load a model.

    ``num_threads`` bounds a CPU engine; None leaves it to the runtime. ``engine_args`` are the runtime's own, as on its
    command line. ``likelihood`` and ``temperature`` are what an engine is fixed to that cannot report all of them.
    """

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    num_threads: int | None = None
    engine_args: str = ""
    max_waiting_requests: int = 1024
    likelihood: Likelihood = Likelihood.SAMPLING
    temperature: float = SamplingParams().temperature


class Engine(Protocol):
    """A loaded model. Its work stops when the iterator that asked for it is closed.

    Its class has a coroutine ``load(settings)`` that returns it.
    """

    @property
    def info(self) -> ModelInfo: ...

    async def died(self) -> str:
        """Return once the engine cannot work any more, with the reason; never, while it can."""
        ...

    def close(self) -> None:
        """Release the model and its threads; nothing may be asked of it afterwards."""
        ...


class Follower(Protocol):
    """A node of an engine over several nodes that does not serve: it works for the one that does."""

    async def died(self) -> str:
        """Return once it cannot work any more, or the one that serves has gone, with the reason."""
        ...

    def close(self) -> None:
        """Release this node's share of the model."""
        ...


class LanguageEngine(Engine, Target, Protocol):
    """A draft or target model. Raises InvalidRequestError for a prefix that leaves no room in the context."""

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the model's chat template, ready for the answer."""
        ...


class RewardEngine(Engine, Prm, Protocol):
    """A reward model. ``info.has_bounded_rewards`` says whether its rewards lie in [0, 1] or are any real numbers."""


def check_prefix(token_ids: Sequence[int], max_length: int, vocabulary_size: int) -> None:
    """Raise InvalidRequestError if a prefix is empty, leaves no room for a token, or is not of this vocabulary."""
    if not 1 <= len(token_ids) < max_length:
        raise InvalidRequestError(
            f"prefix has {len(token_ids)} tokens; allowed: 1 to {max_length - 1}, the model's context less one"
        )
    check_vocabulary(token_ids, vocabulary_size, "prefix")


def check_vocabulary(token_ids: Sequence[int], vocabulary_size: int, what: str) -> None:
    """Raise InvalidRequestError if a token id is none of the model's: it would be read past the embedding."""
    if max(token_ids) >= vocabulary_size:
        raise InvalidRequestError(f"{what} has token id {max(token_ids)}; allowed: 0 to {vocabulary_size - 1}")


def check_length(num_tokens: int, max_length: int) -> None:
    """Raise InvalidRequestError if a trajectory with its candidate is longer than a PRM's context."""
    if num_tokens > max_length:
        raise InvalidRequestError(
            f"prompt, steps and candidate have {num_tokens} tokens for the PRM; "
            f"allowed: at most {max_length}, its context"
        )


def check_likelihood(sampling: SamplingParams) -> None:
    """Raise InvalidRequestError if likelihoods are asked for that greedy decoding does not have.

    Its sampling law has one token at each place: every other candidate's log-likelihood is -inf, and no ratio is left.
    """
    if sampling.temperature == 0 and sampling.likelihood is Likelihood.SAMPLING:
        raise InvalidRequestError(
            "sampling.temperature is 0, greedy, which has no likelihood to score candidates by; "
            "allowed: above 0, or likelihood model"
        )


async def never() -> NoReturn:
    """Wait for ever: the answer of an engine that lives in this process to when it dies."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")
