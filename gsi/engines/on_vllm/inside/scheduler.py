"""vLLM's scheduler, taught to score the end of a prompt: the suffix.

vLLM computes log-probabilities of prompt tokens, but by default it reads the whole prompt anew for them. Told to use
its prefix cache, it returns uninitialised memory for every token that the cache holds, without an error. So a scoring
request says how many tokens its suffix has (``SUFFIX_TOKENS``), and here its cache hit ends before them: the suffix,
and what lies between it and the last full block before it, is computed. What is computed is what is returned.
"""

from typing import Any

import torch
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import LogprobsTensors, ModelRunnerOutput
from vllm.v1.request import Request

SUFFIX_TOKENS = "gsi_suffix_tokens"  # in a request's extra_args


def suffix_tokens(request: Request) -> int | None:
    """Return how many tokens at the end of the prompt the request wants scored; None if it is no scoring request."""
    params = request.sampling_params
    value: int | None = (params.extra_args or {}).get(SUFFIX_TOKENS) if params is not None else None
    return value


class SuffixScheduler(Scheduler):
    """For engines without asynchronous scheduling: those on a CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cached_blocks = self.kv_cache_manager.get_computed_blocks
        self.kv_cache_manager.get_computed_blocks = self._cached_blocks_before_suffix

    def _cached_blocks_before_suffix(self, request: Request) -> Any:
        """Look a request up in the prefix cache, as far as the block of the last token before its suffix."""
        num_suffix = suffix_tokens(request)
        if num_suffix is None:
            return self._cached_blocks(request)
        # A token's log-probability comes from reading the token before it: that one must be computed too.
        num_cacheable = request.num_prompt_tokens - num_suffix - 1
        all_hashes = request.block_hashes
        request.block_hashes = all_hashes[: num_cacheable // self.hash_block_size]
        try:
            return self._cached_blocks(request)
        finally:
            request.block_hashes = all_hashes

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """Send the suffix's rows to the front end, not one for every token of the context."""
        scored = model_runner_output.prompt_logprobs_dict
        for request_id, rows in scored.items():
            request = self.requests.get(request_id)
            num_suffix = suffix_tokens(request) if request is not None else None
            if rows is not None and num_suffix is not None:
                scored[request_id] = last_rows(rows, num_suffix)
        answers: dict[int, EngineCoreOutputs] = super().update_from_output(scheduler_output, model_runner_output)
        return answers


def last_rows(rows: LogprobsTensors, count: int) -> LogprobsTensors:
    """Return the last rows. The model runners V1 and V2 send different numbers of rows before them."""

    def last(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[-count:].contiguous()

    return LogprobsTensors(last(rows.logprob_token_ids), last(rows.logprobs), last(rows.selected_token_ranks))


class SuffixAsyncScheduler(SuffixScheduler, AsyncScheduler):
    """For engines with asynchronous scheduling, those on GPUs: the same on top of vLLM's other scheduler."""
