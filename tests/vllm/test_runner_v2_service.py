"""What a caller sees when an engine on vLLM's model runner V2, the one of GPUs, is killed."""

import asyncio
import os
import signal
import sys

import pytest

from gsi.algorithm.params import SamplingParams
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.errors import RetryableError
from gsi.local.embedded_redis import free_port
from gsi.rpc.clients import TargetClient
from gsi.rpc.service_process import EXIT_ENGINE_DIED
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES
from tests.services.test_local_stack import children_of
from tests.vllm.runner_v2 import environment
from tests.vllm.test_vllm_system import is_engine

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

START_SECONDS, END_SECONDS = 200.0, 60.0


async def test_a_killed_engine_is_a_retryable_error_and_the_end_of_the_service() -> None:
    """The error says that the engine failed, so that a coordinator asks another replica or waits for the next start."""
    listen = f"127.0.0.1:{free_port()}"
    settings = {
        "GSI_TARGET_LISTEN": listen,
        "GSI_TARGET_MODEL": str(MODELS / "target"),
        "GSI_TARGET_ENGINE": "vllm",
        "GSI_TARGET_NUM_THREADS": "1",
        "GSI_TARGET_ENGINE_ARGS": "--max-num-seqs 8",
    }
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.target",
        env={**os.environ, **environment(), **settings},
        cwd=MODELS.parent,
        stderr=asyncio.subprocess.PIPE,
    )
    log = asyncio.create_task(service.stderr.read()) if service.stderr is not None else None
    client, prefix = TargetClient(listen, 60.0), Tokenizer(str(MODELS / "target"), None).render(MESSAGES)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await client.is_serving():
                assert service.returncode is None
                await asyncio.sleep(0.2)
        proposal = client.propose(prefix, 16, SamplingParams(), 7)
        (engine,) = (pid for pid in children_of(service.pid) if is_engine(pid))
        await anext(proposal)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(RetryableError):
            [batch async for batch in proposal]
        async with asyncio.timeout(END_SECONDS):
            assert await service.wait() == EXIT_ENGINE_DIED
        assert log is not None
        written = (await log).decode()
        assert "the engine died; this process is to be started again" in written
        assert "path=native" in written or '"path": "native"' in written
    finally:
        await client.close()
        if service.returncode is None:
            service.kill()
            await service.wait()
