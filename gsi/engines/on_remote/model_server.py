"""What is asked of a model server, and what of its answers is used: token ids and log-probabilities in nats."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

PROBE_TEXT = "The answer to 1 + 1 is 2.\n\nThe answer to 2 + 3 is"  # read by every tokenizer


class RemoteKind(StrEnum):
    """Which model server it is."""

    AUTO = "auto"  # as the server says itself
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """What a server says of itself. ``max_length``: tokens of a prompt that leaves room for one more token."""

    kind: RemoteKind
    version: str
    model: str
    max_length: int
    num_parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """How tokens are to be drawn. ``stop_token_ids`` end a sequence and belong to it, as the step delimiter does."""

    temperature: float
    top_p: float
    seed: int
    max_tokens: int
    stop_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens as a server drew them, perhaps beyond the step delimiter, and the log-probability (nats) of each."""

    token_ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    is_cut: bool  # by the largest number of tokens


class LanguageServer(Protocol):
    """A server of a language model."""

    @property
    def description(self) -> ServerDescription: ...

    @property
    def raw_hint(self) -> str:
        """Say how to start this server so that it reports log-probabilities before the temperature."""
        ...

    async def tokenize(self, text: str) -> Sequence[int] | None:
        """Return the token ids of a text without control tokens; None from a server that does not say them."""
        ...

    async def draw(self, prefix: Sequence[int], draw: Draw) -> Drawn:
        """Draw tokens behind a prefix, up to the end of a step."""
        ...


class ScoringServer(LanguageServer, Protocol):
    """A server that also reports log-probabilities of given tokens, always at temperature 1."""

    async def score(self, prefix: Sequence[int], token_ids: Sequence[int]) -> float | None:
        """Return log pi(token_ids | prefix) in nats; None if the answer cannot be that."""
        ...

    async def score_next(self, prefix: Sequence[int], tokens: Sequence[int]) -> Sequence[float | None]:
        """Return log pi(token | prefix) in nats of each of several tokens; None where the answer cannot be that."""
        ...

    async def prepare_scores(self, prefix: Sequence[int], token_ids: Sequence[int]) -> str:
        """Find the fastest way to score that is right for these tokens; return its name."""
        ...
