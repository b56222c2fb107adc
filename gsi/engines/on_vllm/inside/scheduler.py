"""vLLM's scheduler with one change: the end of a prompt, its suffix, is never taken from the prefix cache.

vLLM computes log-probabilities only of the tokens that it reads. For tokens from the prefix cache it returns
uninitialised memory, without an error. So a scoring request says how many tokens its suffix has (``SUFFIX_TOKENS``),
and the scheduler lets the cache hit end before the row that predicts the suffix's first token, whether the hit comes
from this engine's cache or, by a connector, from elsewhere. Only the rows of the suffix go back to the front end. The
whole picture: ``suffix_scoring.py``.
"""

from collections.abc import Callable
from functools import partial
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


def count_cacheable_tokens(request: Request) -> int | None:
    """Return how many tokens of a scoring request may come from a cache; None if it wants no scores.

    The row at the last token before the suffix predicts the suffix's first token, so that token is read, too.
    """
    num_suffix = count_suffix_tokens(request)
    return None if num_suffix is None else request.num_prompt_tokens - num_suffix - 1


class SuffixScheduler(Scheduler):
    """For an engine without asynchronous scheduling, which is an engine on a CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._longest_hit: int | None = None  # tokens, while a scoring request looks for cached blocks
        manager, coordinator = self.kv_cache_manager, self.kv_cache_manager.coordinator
        _wrap(manager, "get_computed_blocks", self._look_up)
        _wrap(manager, "get_computed_blocks_for_connector", self._look_up)
        _wrap(coordinator, "find_longest_cache_hit", self._find_before_suffix)
        if hasattr(coordinator, "find_longest_cache_hit_per_group"):  # where layers have caches of several kinds
            _wrap(coordinator, "find_longest_cache_hit_per_group", self._find_before_suffix)
        if self.connector is not None:
            _wrap(self.connector, "get_num_new_matched_tokens", self._match_before_suffix)

    def _look_up(self, look_up: Callable[..., Any], request: Request) -> Any:
        """Return the cached blocks of a request; of a scoring request, only blocks before the suffix's first row."""
        longest = count_cacheable_tokens(request)
        if longest is None or self._longest_hit is not None:
            return look_up(request)
        all_hashes = request.block_hashes
        request.block_hashes = all_hashes[: longest // self.hash_block_size]
        self._longest_hit = longest
        try:
            return look_up(request)
        finally:
            request.block_hashes = all_hashes
            self._longest_hit = None

    def _find_before_suffix(self, find: Callable[..., Any], block_hashes: Any, max_cache_hit_length: int) -> Any:
        """Look no further than the hashes go: a sliding window looks from the end, and reads a hash for each block."""
        longest = max_cache_hit_length if self._longest_hit is None else min(max_cache_hit_length, self._longest_hit)
        return find(block_hashes, longest)

    def _match_before_suffix(
        self, match: Callable[..., tuple[int | None, bool]], request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Return how many tokens a connector has from elsewhere; none if some of them are the suffix's.

        vLLM drops what a connector has in this way, too, for a request that must not read the prefix cache. A part of
        it cannot be taken: some connectors compare the number with the number that they gave.
        """
        longest = count_cacheable_tokens(request)
        num_external, is_asynchronous = match(request, num_computed_tokens)
        if longest is not None and num_external is not None and num_computed_tokens + num_external > longest:
            return 0, False
        return num_external, is_asynchronous

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


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Let an object's method be called by ``around``, which gets the method as its first argument."""
    setattr(owner, name, partial(around, getattr(owner, name)))


def take_last_rows(rows: LogprobsTensors, count: int) -> LogprobsTensors:
    """Return the last rows. vLLM's model runners V1 and V2 differ in how many rows they send before."""

    def last(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[-count:].contiguous()

    return LogprobsTensors(last(rows.logprob_token_ids), last(rows.logprobs), last(rows.selected_token_ranks))


class SuffixAsyncScheduler(SuffixScheduler, AsyncScheduler):
    """For an engine with asynchronous scheduling, which is an engine on a GPU."""
