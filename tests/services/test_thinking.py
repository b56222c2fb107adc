"""Thinking models through the whole system: the trace is written step by step, and kept apart from the answer.

The draft is a script that writes one paragraph a step, as a thinking model does; target and PRM are the shipped models.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gsi.algorithm.candidates import Candidate, FinishReason, Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches
from gsi.client.sdk import AsyncClient
from gsi.engines.base import LanguageEngine
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.jobs.reader import JobRecord
from services.draft.servicer import SERVICE, add_to_server
from tests.conftest import MODELS
from tests.services.conftest import load_shipped, serving
from tests.system import ModelServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRACE = ("<think>\n\n", "3 + 4 = 8, so \\boxed{8}?\n\n", "No, 3 + 4 = 7.\n\n", "</think>\n\n")
ANSWER = "The answer is \\boxed{7}"


class ThinkingDraft:
    """Writes the paragraphs of a script one by one, as ``n`` equal candidates, and knows where it is by the prefix."""

    def __init__(self, engine: LanguageEngine, script: Sequence[str]) -> None:
        self.info = engine.info
        self._engine = engine
        self._script = script
        self._tokenizer = Tokenizer(str(MODELS / "draft"), None)

    async def wait_until_dead(self) -> str:
        return await self._engine.wait_until_dead()

    def close(self) -> None:
        self._engine.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._engine.render(messages)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._engine.show(token_ids)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        written = self._tokenizer.decode(prefix)
        number = max(k for k in range(len(self._script)) if written.endswith("".join(self._script[:k])))
        text, is_last = self._script[number], number == len(self._script) - 1
        end = (self.info.eos_token_ids[0],) if is_last else ()
        token_ids = (*self._tokenizer.encode(text), *end)[: sampling.max_step_tokens]
        reason = FinishReason.EOS if is_last else FinishReason.DELIMITER
        yield [Candidate(index, token_ids, text, -1.0, reason) for index in range(n)]


@asynccontextmanager
async def thinking_system(services: ModelServices, queue: str, script: Sequence[str]) -> AsyncIterator[AsyncClient]:
    async def load() -> ThinkingDraft:
        engine = await load_shipped("draft")
        return ThinkingDraft(engine, script)  # type: ignore[arg-type]  # the shipped draft is a LanguageEngine

    async with AsyncExitStack() as stack:
        draft = await stack.enter_async_context(serving(SERVICE, add_to_server, load))
        settings = {"GSI_COORDINATOR_DRAFT": draft.address}
        running = await stack.enter_async_context(services.coordinators(queue, settings=settings))
        yield running.client


async def ask(client: AsyncClient, **params: object) -> JobRecord:
    chosen = {"n": 2, "acceptance_threshold": -1e6, **params}
    record = await client.wait(await client.submit({"prompt": "What is 3 + 4?", "params": chosen}), 60.0)
    assert record.state == "SUCCEEDED", record.fields
    return record


async def test_the_trace_is_kept_apart_from_the_answer(model_services: ModelServices) -> None:
    """An answer inside the trace is none: neither does it end the job, nor is it the job's answer."""
    async with thinking_system(model_services, "thinking", (*TRACE, ANSWER)) as client:
        seen, told, blind = await asyncio.gather(ask(client), ask(client, thinking=True), ask(client, thinking=False))
        for record in (seen, told):
            result = record.to_dict()
            assert (result["answer"], result["text"], result["stop_reason"]) == ("7", ANSWER, "eos")
            assert result["reasoning"] == "3 + 4 = 8, so \\boxed{8}?\n\nNo, 3 + 4 = 7."
            assert [step.text for step in record.steps] == [*TRACE, ANSWER]  # each paragraph is a step
        result = blind.to_dict()
        assert (result["answer"], result["text"], result["reasoning"]) == ("8", "".join(TRACE[:2]), "")
        cut = (await ask(client, max_steps=3)).to_dict()
        assert (cut["answer"], cut["text"], cut["stop_reason"]) == (None, "", "max_steps")
        assert cut["reasoning"].endswith("No, 3 + 4 = 7.")


async def test_a_template_may_begin_the_trace(model_services: ModelServices) -> None:
    """Then the text has no <think>, and the job must say that its models think."""
    async with thinking_system(model_services, "begun", (*TRACE[1:], ANSWER)) as client:
        told, untold = await asyncio.gather(ask(client, thinking=True), ask(client))
        assert (told.to_dict()["answer"], told.to_dict()["text"]) == ("7", ANSWER)
        assert told.to_dict()["reasoning"].startswith("3 + 4 = 8")
        assert (untold.to_dict()["answer"], untold.to_dict()["reasoning"]) == ("8", "")
