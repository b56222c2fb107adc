"""One target over two nodes: two processes of the shipped service on this machine, joined by Gloo."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_transformers.language import TransformersEngine
from gsi.engines.on_vllm.core import make_engine_config
from gsi.engines.on_vllm.language import LANGUAGE_MODEL_ARGS
from gsi.errors import MisconfiguredError
from gsi.local.embedded_redis import free_port
from gsi.rpc.clients import TargetClient
from gsi.rpc.service_process import EXIT_ENGINE_DIED
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, batches

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(700)]

START_SECONDS = 500.0  # two imports of vLLM and two workers, where others may use the machine
END_SECONDS = 60.0

Process = asyncio.subprocess.Process


def args_of(rank: int, master_port: int) -> str:
    return (
        f"--tensor-parallel-size 2 --nnodes 2 --node-rank {rank} --master-addr 127.0.0.1 --master-port {master_port} "
        "--max-num-seqs 16"
    )


def settings_of(engine_args: str) -> EngineSettings:
    return EngineSettings(str(MODELS / "target"), num_threads=1, engine_args=engine_args)


def two_free_ports() -> int:
    """Return a free port whose next port is free as well."""
    while True:
        port = free_port()
        with socket.socket() as behind, contextlib.suppress(OSError):
            behind.bind(("", port + 1))
            return port


async def start_node(rank: int, master_port: int, listen: str) -> Process:
    environment = {
        "GSI_TARGET_LISTEN": listen,
        "GSI_TARGET_MODEL": str(MODELS / "target"),
        "GSI_TARGET_ENGINE": "vllm",
        "GSI_TARGET_NUM_THREADS": "1",
        "GSI_TARGET_ENGINE_ARGS": args_of(rank, master_port),
        "VLLM_HOST_IP": "127.0.0.1",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.target", env={**os.environ, **environment}, cwd=MODELS.parent
    )


@contextlib.asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Process, Process, TargetClient]]:
    """Yield node 0, node 1, and a client of the service that both form."""
    master_port, listen = two_free_ports(), f"127.0.0.1:{free_port()}"
    nodes = [await start_node(rank, master_port, listen) for rank in (1, 0)]  # node 1 waits for node 0
    client = TargetClient(listen, 60.0)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await client.is_serving():
                assert [node.returncode for node in nodes] == [None, None]
                await asyncio.sleep(0.2)
        yield nodes[1], nodes[0], client
    finally:
        await client.close()
        for node in nodes:
            if node.returncode is None:
                node.kill()
                await node.wait()


async def test_two_nodes_are_one_target_and_end_together() -> None:
    """Each holds half of the model; the likelihoods are the whole model's. Node 1 serves nothing.

    vLLM alone would let node 1 wait forever once node 0 has ended.
    """
    whole = await TransformersEngine.load(settings_of(""))
    prefix, sampling = whole.render(MESSAGES), SamplingParams()
    async with two_nodes() as (first, second, target):
        written = [c async for batch in target.propose(prefix, 8, sampling, 7) for c in batch]
        assert sorted(candidate.index for candidate in written) == list(range(8))
        expected = {s.index: s.value async for b in whole.score(prefix, sampling, batches(written)) for s in b}
        scores = {s.index: s.value async for b in target.score(prefix, sampling, batches(written)) for s in b}
        assert scores == pytest.approx(expected, abs=TOLERANCE)
        assert {c.index: c.log_likelihood for c in written} == pytest.approx(expected, abs=TOLERANCE)

        first.send_signal(signal.SIGKILL)
        async with asyncio.timeout(END_SECONDS):
            assert await second.wait() == EXIT_ENGINE_DIED
    whole.close()


def test_every_node_runs_the_same() -> None:
    """Scheduler, worker extension and likelihood settings are those of node 0; only the rank differs."""
    first, second = (make_engine_config(settings_of(args_of(rank, 29501)), LANGUAGE_MODEL_ARGS) for rank in (0, 1))
    assert (first.parallel_config.node_rank, second.parallel_config.node_rank) == (0, 1)
    assert (
        first.parallel_config.worker_extension_cls
        == second.parallel_config.worker_extension_cls
        == LANGUAGE_MODEL_ARGS["worker_extension_cls"]
    )
    assert (first.parallel_config.local_world_size, first.parallel_config.world_size) == (1, 2)
    assert first.scheduler_config.scheduler_cls == second.scheduler_config.scheduler_cls
    assert first.compute_hash() == second.compute_hash()


@pytest.mark.parametrize(
    ("engine_args", "sentence"),
    [
        ("--node-rank 1", "--node-rank is 1; allowed: 0 to --nnodes less one"),
        ("--nnodes 2 --node-rank 2 --tensor-parallel-size 2", "--node-rank is 2; allowed: 0 to --nnodes less one"),
        (
            "--nnodes 2 --data-parallel-size 2",
            "--data-parallel-size with --nnodes is not possible; add replicas instead",
        ),
        (
            "--nnodes 2 --tensor-parallel-size 2 --distributed-executor-backend ray",
            "--distributed-executor-backend is ray; allowed with --nnodes: mp",
        ),
    ],
)
def test_what_cannot_be_spread_over_nodes_is_refused(engine_args: str, sentence: str) -> None:
    """A sentence names the argument before anything is started."""
    with pytest.raises(MisconfiguredError) as refused:
        make_engine_config(settings_of(engine_args), LANGUAGE_MODEL_ARGS)
    assert str(refused.value) == f"engine_args: {sentence}"


def test_nodes_that_do_not_divide_the_model_are_refused() -> None:
    """vLLM itself refuses them."""
    with pytest.raises(ValueError, match="must evenly divide"):
        make_engine_config(settings_of("--nnodes 2 --tensor-parallel-size 1"), LANGUAGE_MODEL_ARGS)
