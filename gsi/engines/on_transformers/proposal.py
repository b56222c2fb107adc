"""The n candidates of a proposal, which are sampled side by side."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from transformers import DynamicCache

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.seeds import derive_seed
from gsi.engines.on_transformers.model_thread import Work
from gsi.engines.on_transformers.passes import Draw, Part
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.sampling import draw_tokens
from gsi.engines.on_transformers.shared_rows import SharedRows
from gsi.engines.step_end import Decode, find_finish_reason, read_text

PATIENCE = 3  # tokens: candidates that finish so closely go out together, as each message costs target and PRM a pass


@dataclass(slots=True)
class _Row:
    """A candidate that is not finished."""

    index: int
    random: random.Random
    token_ids: list[int] = field(default_factory=list)
    log_likelihood: float = 0.0


class SamplingBatch:
    """n candidates behind one prefix. Each draws from its own stream of random numbers."""

    def __init__(
        self,
        model: PrefixModel,
        n: int,
        sampling: SamplingParams,
        seed: int,
        eos_token_ids: Collection[int],
        decode: Decode,
    ) -> None:
        self._model = model
        self._rows = [_Row(index, random.Random(derive_seed(seed, index))) for index in range(n)]
        self._sampling = sampling
        self._max_tokens = sampling.max_step_tokens
        self._eos_token_ids = eos_token_ids
        self._decode = decode
        self._prefix: Sequence[int] = ()
        self._cache: DynamicCache | SharedRows | None = None
        self._is_closed = False

    @property
    def is_finished(self) -> bool:
        return not self._rows

    def close(self) -> None:
        """Give back the memory of unfinished candidates. May be called on any thread, also while they are written."""
        self._is_closed = True
        self._free_if_closed()

    def begin(self, token_ids: Sequence[int]) -> Work[list[Candidate]]:
        """Read the prefix and sample until candidates are finished; return these."""
        self._prefix = token_ids
        prefix = yield from self._model.read(token_ids)
        self._max_tokens = min(self._max_tokens, self._model.max_length - prefix.length)
        self._cache = self._model.begin_rows(prefix, len(self._rows))
        self._free_if_closed()
        first = draw_tokens(prefix.last_outputs.expand(len(self._rows), -1), self._draw())
        return (yield from self._write(self._append(first)))

    def go_on(self) -> Work[list[Candidate]]:
        """Sample until candidates are finished; return these."""
        return (yield from self._write([]))

    def _write(self, finished: list[Candidate]) -> Work[list[Candidate]]:
        """Sample until candidates are finished, and on for those that finish a few tokens later."""
        num_waited = 0
        while self._rows and self._cache is not None and num_waited < PATIENCE:
            rows = [row.token_ids[-1:] for row in self._rows]
            part = Part(self._cache, rows, only_last=True, draw=self._draw())
            yield part
            finished += self._append(part.drawn)
            num_waited += bool(finished)
        return finished

    def _free_if_closed(self) -> None:
        if self._is_closed and isinstance(self._cache, SharedRows):
            self._cache.is_free = True

    def _draw(self) -> Draw:
        return Draw(self._sampling, [row.random.random() for row in self._rows], self._model.head)

    def _append(self, drawn: Sequence[tuple[int, float]]) -> list[Candidate]:
        """Append a token to every unfinished candidate; return the candidates that are finished now."""
        for row, (token, log_likelihood) in zip(self._rows, drawn, strict=True):
            row.token_ids.append(token)
            row.log_likelihood += log_likelihood
        reasons = [
            find_finish_reason(row.token_ids, self._decode, self._eos_token_ids, self._max_tokens) for row in self._rows
        ]
        finished = [
            Candidate(row.index, tuple(row.token_ids), self._read_text(row, reason), row.log_likelihood, reason)
            for row, reason in zip(self._rows, reasons, strict=True)
            if reason is not None
        ]
        self._keep([position for position, reason in enumerate(reasons) if reason is None])
        return finished

    def _read_text(self, row: _Row, reason: FinishReason) -> str:
        return read_text(self._decode, self._prefix, row.token_ids, reason)

    def _keep(self, positions: list[int]) -> None:
        if self._cache is not None and len(positions) < len(self._rows):
            self._model.select_rows(self._cache, positions)
        self._rows = [self._rows[position] for position in positions]
