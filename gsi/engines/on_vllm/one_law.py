"""An engine's one law: at its start, every number that vLLM derives from the logits is brought to it, and checked.

The law is that of softmax(logits / temperature), or of softmax(logits) with likelihood "model", over the ids that the
tokenizer has a token for. The workers change the logits (``inside/tempering.py``); here the answers are looked at, as
a service will get them, because a worker cannot know whether vLLM computes logits somewhere else, too: in a recorded
CUDA graph, for instance, which a change of a layer does not reach.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from gsi.engines.on_vllm.core import SCORING_PRIORITY, VllmCore
from gsi.engines.on_vllm.inside.tempering import Tempered
from gsi.errors import MisconfiguredError

SLOPE_TOLERANCE = 0.05  # of 1 / temperature: half precision rounds each logit by less than a hundredth
WRITTEN_TOKENS, LIKELIEST = 4, 8
PROMPT_TOKENS = 48  # in bfloat16 a first request of fewer than 40 may end an engine on a CPU with AMX

Row = Mapping[int, float]  # the log-probabilities (nats) of some token ids at one place


async def temper(core: VllmCore, temperature: float) -> None:
    """Fix the temperature of samples and likelihoods.

    Raises MisconfiguredError if vLLM cannot divide the logits of this architecture, or not all of them.
    """
    before = await _read(core)
    answers = {Tempered(answer) for answer in await core.ask_workers("temper", temperature)} - {Tempered.ELSEWHERE}
    if answers != {Tempered.EXACTLY}:
        reason = "changes its logits after they are scaled" if Tempered.NOT_EXACTLY in answers else "scales no logits"
        raise MisconfiguredError(
            f"likelihood: vLLM's class for this architecture {reason}, so it cannot report sampling; allowed: model"
        )
    after = await _read(core)
    for what, rows in before.items():
        slope = find_slope(rows, after[what])
        if slope is not None and abs(slope * temperature - 1) > SLOPE_TOLERANCE:
            raise MisconfiguredError(
                f"likelihood: vLLM's log-probabilities of {what} tokens follow temperature {1 / slope:.2f} instead of "
                f"{temperature}, so it cannot report sampling; allowed: model"
            )


async def hide_padding(core: VllmCore, num_ids: int) -> None:
    """Never sample a token id of ``num_ids`` or above, which the tokenizer has no token for.

    Raises MisconfiguredError if there are such ids and vLLM cannot hide them.
    """
    if core.vocabulary_size > num_ids and not any(await core.ask_workers("hide_padding", num_ids)):
        raise MisconfiguredError(
            f"model: it may write ids up to {core.vocabulary_size - 1}, the tokenizer has tokens up to {num_ids - 1}, "
            "and vLLM's class for this architecture cannot hide the others; allowed: the transformers engine"
        )


async def _read(core: VllmCore) -> dict[str, list[Row]]:
    """Return log-probabilities of the likeliest tokens at places of a prompt, and at places that vLLM writes."""
    params = SamplingParams(
        max_tokens=WRITTEN_TOKENS,
        temperature=0.0,
        logprobs=LIKELIEST,
        prompt_logprobs=LIKELIEST,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    num_prompt = min(PROMPT_TOKENS, core.config.model_config.max_model_len - WRITTEN_TOKENS)
    prompt = [token % core.vocabulary_size for token in range(1, num_prompt + 1)]
    output = await core.generate(prompt, params, SCORING_PRIORITY)
    return {"prompt": _rows(output.prompt_logprobs[1:]), "written": _rows(output.outputs[0].logprobs)}


def _rows(rows: Sequence[Mapping[int, Any]]) -> list[Row]:
    return [{token: entry.logprob for token, entry in row.items()} for row in rows]


def find_slope(before: Sequence[Row], after: Sequence[Row]) -> float | None:
    """Return by what factor the differences between log-probabilities have grown; None if there is nothing to compare.

    At one place log p(a) - log p(b) is the difference of two logits, so the factor is 1 / temperature. A place is
    compared with itself only: rows end where another token was written.
    """
    products = squares = 0.0
    for one, other in zip(before, after, strict=False):
        shared = sorted(one.keys() & other.keys())
        for first, second in itertools.pairwise(shared):
            difference = one[first] - one[second]
            products += difference * (other[first] - other[second])
            squares += difference**2
        if max(one, key=one.__getitem__) != max(other, key=other.__getitem__):
            break
    return products / squares if squares > 0 else None
