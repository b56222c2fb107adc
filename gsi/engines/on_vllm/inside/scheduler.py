"""vLLM's scheduler with one change: the end of a prompt, its suffix, is never taken from the prefix cache.

vLLM computes log-probabilities only of the tokens that it reads. For tokens from the prefix cache it returns
uninitialised memory, without an error. So a scoring request says how many tokens its suffix has (``SUFFIX_TOKENS``),
and the scheduler lets the cache hit end before the row that predicts the suffix's first token. Only the rows of the
suffix go back to the front end. The whole picture: ``suffix_scoring.py``.
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


def count_suffix_tokens(request: Request) -> int | None:
    """Return how many tokens at the end of the prompt a request wants scored; None if it wants no scores."""
    params = request.sampling_params
    count: int | None = (params.extra_args or {}).get(SUFFIX_TOKENS) if params is not None else None
    return count


class SuffixScheduler(Scheduler):
    """For an engine without asynchronous scheduling, which is an engine on a CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cached_blocks = self.kv_cache_manager.get_computed_blocks
        self.kv_cache_manager.get_computed_blocks = self._cached_blocks_before_suffix

    def _cached_blocks_before_suffix(self, request: Request) -> Any:
        """Return the cached blocks of a request; of a scoring request, only blocks before the suffix's first row."""
        num_suffix = count_suffix_tokens(request)
        if num_suffix is None:
            return self._cached_blocks(request)
        # The row at the last token before the suffix predicts the suffix's first token, so that token is read, too.
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
        """Send the front end the rows of the suffix, not a row for every token of the context."""
        scored = model_runner_output.prompt_logprobs_dict
        for request_id, rows in scored.items():
            request = self.requests.get(request_id)
            num_suffix = count_suffix_tokens(request) if request is not None else None
            if rows is not None and num_suffix is not None:
                scored[request_id] = take_last_rows(rows, num_suffix)
        answers: dict[int, EngineCoreOutputs] = super().update_from_output(scheduler_output, model_runner_output)
        return answers


def take_last_rows(rows: LogprobsTensors, count: int) -> LogprobsTensors:
    """Return the last rows. vLLM's model runners V1 and V2 differ in how many rows they send before."""

    def last(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[-count:].contiguous()

    return LogprobsTensors(last(rows.logprob_token_ids), last(rows.logprobs), last(rows.selected_token_ranks))


class SuffixAsyncScheduler(SuffixScheduler, AsyncScheduler):
    """For an engine with asynchronous scheduling, which is an engine on a GPU."""
