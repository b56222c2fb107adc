"""What an engine is: the ports of ``gsi.algorithm.ports``, and a description of the model behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import Likelihood
from gsi.algorithm.ports import Prm, Target

STEP_DELIMITER = "\n\n"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its service describes it; the fields are those of ``gsi.v1.ModelInfo``."""

    model: str
    revision: str
    tokenizer_fingerprint: str
    vocabulary_size: int
    max_length: int
    eos_token_ids: tuple[int, ...]
    step_delimiter_token_ids: tuple[int, ...]
    likelihoods: tuple[Likelihood, ...]
    engine: str
    engine_version: str


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What every engine needs to load a model. ``num_threads`` bounds a CPU engine; None leaves it to the runtime."""

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    num_threads: int | None = None


class Engine(Protocol):
    """A loaded model. Its work stops when the iterator that asked for it is closed."""

    @property
    def info(self) -> ModelInfo: ...

    def close(self) -> None:
        """Release the model and its threads; nothing may be asked of it afterwards."""
        ...


class LanguageEngine(Engine, Target, Protocol):
    """A draft or target model. Raises InvalidRequestError for a prefix that leaves no room in the context."""

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the token ids of the conversation by the model's chat template, ready for the answer."""
        ...


class RewardEngine(Engine, Prm, Protocol):
    """A process reward model."""
