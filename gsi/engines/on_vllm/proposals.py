"""Proposals on vLLM: the sampling parameters of a candidate, and how a candidate is read off vLLM's answer."""

from collections.abc import Sequence

from vllm import SamplingParams as VllmSamplingParams
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import STEP_DELIMITER
from gsi.engines.log_probabilities import UNSOUND, sum_if_sound
from gsi.engines.step_end import Decode, find_finish_reason, read_text
from gsi.errors import InternalError
from gsi.model_info import ModelInfo


def make_sampling_params(info: ModelInfo, sampling: SamplingParams, max_tokens: int) -> VllmSamplingParams:
    """Return what the candidates of a proposal share; each adds its seed. ``max_tokens``: the rest of the context.

    An engine with a fixed temperature divides the logits itself: a request asks for temperature 1, or for 0, greedy.
    """
    is_tempered = info.temperature is not None and sampling.temperature > 0
    return VllmSamplingParams(
        temperature=1.0 if is_tempered else sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=min(sampling.max_step_tokens, max_tokens),
        stop=[STEP_DELIMITER],
        include_stop_str_in_output=True,
        stop_token_ids=list(info.eos_token_ids),
        logprobs=0,  # of the sampled token, and no other
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def read_candidate(
    info: ModelInfo,
    decode: Decode,
    prefix: Sequence[int],
    index: int,
    output: CompletionOutput,
    params: VllmSamplingParams,
) -> Candidate:
    """Return the candidate in vLLM's answer, up to the token that ends the step.

    With speculative decoding vLLM adds several tokens at once, and may write beyond the step delimiter.
    """
    token_ids = output.token_ids
    limit = params.max_tokens or len(token_ids)
    length, reason = len(token_ids), FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.EOS
    for length in range(1, len(token_ids) + 1):
        if found := find_finish_reason(token_ids[:length], decode, info.eos_token_ids, limit):
            reason = found
            break
    written = tuple(token_ids[:length])
    log_likelihood = sum_if_sound(output.logprobs.logprobs[:length], output.logprobs.token_ids[:length], written)
    if log_likelihood is None:
        raise InternalError(UNSOUND)
    if params.temperature == 0 and info.likelihoods == (Likelihood.SAMPLING,):
        log_likelihood = 0.0  # vLLM's number is of the law before greedy decoding took its likeliest token
    return Candidate(index, written, read_text(decode, prefix, written, reason), log_likelihood, reason)
