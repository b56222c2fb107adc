"""The draft service as the harness runs it: the shipped one, which writes down what it is asked for.

It runs in a child of this process, which has imported everything that takes seconds: a poison job, which crashes it
again and again, is then not mostly a test of imports. A SIGKILL of this process ends the child, too.

``python -m tests.chaos.draft``. Four environment variables, all needed: CHAOS_JOURNAL, a file that gets a line
``time seed`` for every step that candidates are asked for (time: seconds since 1970); CHAOS_POISON, a prompt that ends
the service as a crash of the engine would, once candidates for it are asked for; CHAOS_SPOILT, a file with the seeds
of steps that fail when they are asked for the first time, one a line; CHAOS_RESTART_SECONDS, how long a crashed one is
away besides what loading its model takes.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches, ScoreBatches, TokenBatches
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.on_transformers.language import TransformersEngine
from gsi.engines.registry import EngineTable
from gsi.model_info import ModelInfo
from gsi.rpc.service_process import run_service
from gsi.runtime.child import end_with_parent
from services.draft.servicer import SERVICE, add_to_server
from services.draft.settings import DraftSettings


class WatchedEngine:
    """An engine with a journal, with a prompt that it does not survive, and with steps that fail once."""

    def __init__(self, engine: LanguageEngine, journal: Path, spoilt: Path, poison: str) -> None:
        self._engine = engine
        self._journal = journal.open("a", buffering=1)  # a line is written at once: a kill loses none
        self._spoilt = spoilt
        self._failed: set[int] = set()
        self._poison = engine.render((Message("user", poison),))

    @classmethod
    async def load(cls, settings: EngineSettings) -> "WatchedEngine":
        engine = await TransformersEngine.load(settings)  # imported above, in the parent
        journal, spoilt = Path(os.environ["CHAOS_JOURNAL"]), Path(os.environ["CHAOS_SPOILT"])
        return cls(engine, journal, spoilt, os.environ["CHAOS_POISON"])

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    async def wait_until_dead(self) -> str:
        return await self._engine.wait_until_dead()

    def close(self) -> None:
        self._engine.close()
        self._journal.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._engine.render(messages)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._engine.show(token_ids)

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        return self._engine.score(prefix, sampling, candidates)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self._journal.write(f"{time.time():.6f} {seed}\n")
        if tuple(prefix[: len(self._poison)]) == self._poison:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed not in self._failed and str(seed) in self._spoilt.read_text().split():
            self._failed.add(seed)
            raise RuntimeError("a step that fails once")
        async with aclosing(self._engine.propose(prefix, n, sampling, seed)) as batches:
            async for batch in batches:
                yield batch


def serve() -> None:
    engines: EngineTable[LanguageEngine] = EngineTable({"transformers": "tests.chaos.draft:WatchedEngine"})
    run_service("draft", SERVICE, DraftSettings, engines, add_to_server)


def main() -> None:
    """Run the service in a child, and again if that crashes, until we are told to stop."""
    while True:
        child = os.fork()
        if child == 0:
            end_with_parent(signal.SIGKILL)
            serve()
            return
        signal.signal(signal.SIGTERM, partial(_stop, child))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            sys.exit(code)
        time.sleep(float(os.environ["CHAOS_RESTART_SECONDS"]))


def _stop(child: int, *_: object) -> None:
    os.kill(child, signal.SIGTERM)


if __name__ == "__main__":
    main()
