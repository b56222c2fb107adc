"""The law that candidates are sampled from, and the sampling of n candidates in one batch."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from gsi.algorithm.candidates import Candidate
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.seeds import derive_seed
from gsi.engines.on_transformers.prefix import Prefix, PrefixModel, Tensor
from gsi.engines.step_end import Decode, find_finish_reason


def sampling_law(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return log-probabilities [..., vocabulary] of softmax(logits / temperature) restricted to the top-p nucleus.

    The nucleus is the smallest set of likeliest tokens whose probabilities reach top_p; a token outside it has -inf.
    Temperature 0 is greedy: the likeliest token (the first, if several are) has 0, every other token -inf.
    The result is in double precision, because a step's likelihood is a sum over hundreds of tokens.
    """
    if temperature == 0:
        nothing = torch.full_like(logits, -torch.inf, dtype=torch.double)
        return nothing.scatter(-1, logits.argmax(dim=-1, keepdim=True), 0.0)
    law = torch.log_softmax(logits.double() / temperature, dim=-1)
    if top_p >= 1:
        return law
    ordered, order = law.sort(dim=-1, descending=True)
    mass_before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    outside = torch.zeros_like(law, dtype=torch.bool).scatter(-1, order, mass_before >= top_p)
    return torch.log_softmax(law.masked_fill(outside, -torch.inf), dim=-1)


def likelihood_law(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """Return the log-probabilities [..., vocabulary] that likelihoods are read from (``docs/algorithm.md``)."""
    if sampling.likelihood is Likelihood.MODEL:
        return torch.log_softmax(logits.double(), dim=-1)
    return sampling_law(logits, sampling.temperature, sampling.top_p)


def draw(law: Tensor, uniforms: Sequence[float]) -> list[int]:
    """Return a token id for each row of log-probabilities [rows, vocabulary], by inverting the cumulative law.

    ``uniforms`` has a number in [0, 1) for each row.
    """
    cumulated = law.exp().cumsum(dim=-1)
    targets = torch.tensor(uniforms, dtype=cumulated.dtype, device=cumulated.device)[:, None] * cumulated[:, -1:]
    tokens: list[int] = torch.searchsorted(cumulated, targets, right=True).squeeze(1).tolist()
    return tokens


@dataclass(slots=True)
class _Row:
    """A candidate that is not finished."""

    index: int
    random: random.Random
    token_ids: list[int] = field(default_factory=list)
    log_likelihood: float = 0.0


class SamplingBatch:
    """n candidates that are sampled side by side; each call of ``advance`` adds a token to each of them.

    A forward pass holds these candidates and no other request's, so the same (prefix, n, seed) gives the same
    candidates bit by bit.
    """

    def __init__(
        self,
        model: PrefixModel,
        prefix: Prefix,
        n: int,
        sampling: SamplingParams,
        seed: int,
        eos_token_ids: Collection[int],
        decode: Decode,
    ) -> None:
        self._model = model
        self._cache = prefix.cache(n)
        self._logits = prefix.last_outputs.expand(n, -1)
        self._rows = [_Row(index, random.Random(derive_seed(seed, index))) for index in range(n)]
        self._sampling = sampling
        self._max_tokens = min(sampling.max_step_tokens, model.max_length - prefix.length)
        self._eos_token_ids = eos_token_ids
        self._decode = decode

    @property
    def is_finished(self) -> bool:
        return not self._rows

    def advance(self) -> list[Candidate]:
        """Sample a token of every unfinished candidate; return the candidates that are finished now."""
        if self._rows[0].token_ids:
            self._logits = self._model.continue_rows(self._cache, [row.token_ids[-1:] for row in self._rows])[:, -1]
        self._sample_tokens()
        reasons = [
            find_finish_reason(row.token_ids, self._decode, self._eos_token_ids, self._max_tokens) for row in self._rows
        ]
        finished = [
            Candidate(row.index, tuple(row.token_ids), self._decode(row.token_ids), row.log_likelihood, reason)
            for row, reason in zip(self._rows, reasons, strict=True)
            if reason is not None
        ]
        self._keep([position for position, reason in enumerate(reasons) if reason is None])
        return finished

    def _sample_tokens(self) -> None:
        sampling = self._sampling
        law = sampling_law(self._logits, sampling.temperature, sampling.top_p)
        tokens = draw(law, [row.random.random() for row in self._rows])
        likelihoods = law if sampling.likelihood is Likelihood.SAMPLING else likelihood_law(self._logits, sampling)
        for position, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            row.token_ids.append(token)
            row.log_likelihood += float(likelihoods[position, token])

    def _keep(self, positions: list[int]) -> None:
        if 0 < len(positions) < len(self._rows):
            self._cache.batch_select_indices(torch.tensor(positions, device=self._logits.device))
        self._rows = [self._rows[position] for position in positions]
