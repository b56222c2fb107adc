"""The law that candidates are sampled from, and draws from it."""

from collections.abc import Sequence

import torch

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.on_transformers.passes import Draw, Head, Part, Tensor, do_or_blame


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


def draw_all(parts: Sequence[Part]) -> None:
    """Draw for each part that asks for it. Parts with the same law are drawn together: a call costs more than a row."""
    by_law: dict[tuple[SamplingParams, Head], list[Part]] = {}
    for part in parts:
        if part.draw is not None and part.error is None:
            by_law.setdefault((part.draw.sampling, part.draw.head), []).append(part)
    for alike in by_law.values():
        do_or_blame(_draw_alike, alike)


def _draw_alike(parts: Sequence[Part]) -> None:
    draws = [part.draw for part in parts if part.draw is not None]
    uniforms = [number for wanted in draws for number in wanted.uniforms]
    outputs = torch.cat([part.outputs[:, -1] for part in parts])
    drawn = iter(draw_tokens(outputs, Draw(draws[0].sampling, uniforms, draws[0].head)))
    for part in parts:
        part.drawn = [next(drawn) for _ in part.rows]


def draw_tokens(outputs: Tensor, wanted: Draw) -> list[tuple[int, float]]:
    """Return for each row of a pass's outputs [rows, outputs] a token id and its log-likelihood (nats)."""
    sampling, logits = wanted.sampling, wanted.head(outputs)
    law = sampling_law(logits, sampling.temperature, sampling.top_p)
    tokens = draw(law, wanted.uniforms)
    likelihoods = law if sampling.likelihood is Likelihood.SAMPLING else likelihood_law(logits, sampling)
    return list(zip(tokens, likelihoods[range(len(tokens)), tokens].tolist(), strict=True))
