"""A fault of vLLM 0.32 mended: on a CPU its speculative decoding samples at a temperature read from unset memory.

Where vLLM verifies drafted tokens, it hands each request's temperature on to the request's tokens. Its stand-in for the
kernel that does so on GPUs drops the result (https://github.com/vllm-project/vllm/issues/55005): what is sampled is not
of the target's law, without an error. On GPUs the kernel itself runs, and nothing is changed.
"""

import torch
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler


def mend_on_cpu() -> bool:
    """Replace the faulty function in this process if it runs on a CPU; return whether it does."""
    if current_platform.is_cpu():
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
    return bool(current_platform.is_cpu())


def expand_batch_to_tokens(
    x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> torch.Tensor:
    """Return [num_tokens]: each request's value as often as it has tokens, with one value replaced by another.

    ``x`` [requests]; ``cu_num_tokens`` [requests]: tokens up to and including each request. The name is vLLM's.
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    return x.masked_fill(x == replace_from, replace_to).repeat_interleave(counts, output_size=num_tokens)
