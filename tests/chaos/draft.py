"""The draft service as the harness runs it: the shipped one, which writes down what it is asked for.

``python -m tests.chaos.draft``. Two environment variables, both needed: CHAOS_JOURNAL, a file that gets a line
``time seed`` for every step that candidates are asked for (time: seconds since 1970); CHAOS_POISON, a prompt that ends
this process as a crash of the engine would, once candidates for it are asked for.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from gsi.algorithm.candidates import Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches, ScoreBatches, TokenBatches
from gsi.engines.base import EngineSettings, LanguageEngine, ModelInfo
from gsi.engines.registry import load_language_engine
from gsi.rpc.service_process import run_service
from services.draft.servicer import SERVICE, add_to_server
from services.draft.settings import DraftSettings


class WatchedEngine:
    """An engine with a journal, and with a prompt that it does not survive."""

    def __init__(self, engine: LanguageEngine, journal: Path, poison: str) -> None:
        self._engine = engine
        self._journal = journal.open("a", buffering=1)  # a line is written at once: a kill loses none
        self._poison = engine.render((Message("user", poison),))

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    async def died(self) -> str:
        return await self._engine.died()

    def close(self) -> None:
        self._engine.close()
        self._journal.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._engine.render(messages)

    def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        return self._engine.score(prefix, sampling, candidates)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self._journal.write(f"{time.time():.6f} {seed}\n")
        if tuple(prefix[: len(self._poison)]) == self._poison:
            os.kill(os.getpid(), signal.SIGKILL)
        async with aclosing(self._engine.propose(prefix, n, sampling, seed)) as batches:
            async for batch in batches:
                yield batch


async def _load(name: str, settings: EngineSettings) -> LanguageEngine:
    engine = await load_language_engine(name, settings)
    return WatchedEngine(engine, Path(os.environ["CHAOS_JOURNAL"]), os.environ["CHAOS_POISON"])


if __name__ == "__main__":
    run_service("draft", SERVICE, DraftSettings, _load, add_to_server)
