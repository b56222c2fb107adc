"""A repair of vLLM 0.32: on a CPU its speculative decoding samples at a temperature from uninitialised memory.

To verify drafted tokens, vLLM copies each request's temperature to the request's tokens. On a CPU, the replacement for
the GPU kernel drops the copy (https://github.com/vllm-project/vllm/issues/55005): the samples do not follow the
target's law, and there is no error. On a GPU the kernel itself runs, and this module changes nothing.
"""

import torch
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler


def mend_on_cpu() -> bool:
    """Replace the faulty function in this process if vLLM runs on a CPU; return whether it does."""
    if current_platform.is_cpu():
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
    return bool(current_platform.is_cpu())


def expand_batch_to_tokens(
    x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> torch.Tensor:
    """Return [num_tokens]: the value of each request, repeated for each of its tokens.

    ``x`` [requests]: the values, of which ``replace_from`` becomes ``replace_to``; ``cu_num_tokens`` [requests]: the
    number of tokens up to and including each request. Name and arguments are vLLM's.
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    return x.masked_fill(x == replace_from, replace_to).repeat_interleave(counts, output_size=num_tokens)
