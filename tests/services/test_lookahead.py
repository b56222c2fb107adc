"""Lookahead over real gRPC and in a whole system: what is wasted is stopped at the service, and records stay equal."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Prompt, Score, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.lookahead import Fate, Lookahead
from gsi.algorithm.params import Params, SamplingParams, StopRules
from gsi.algorithm.ports import CandidateBatches, Ports, ScoreBatches
from gsi.algorithm.round import Round
from gsi.jobs.reader import JobRecord
from gsi.local.demo import held_out_problems
from gsi.rpc.clients import DraftClient, PrmClient, TargetClient
from gsi.rpc.convert import busy_share_from_metadata, room_to_metadata
from services.coordinator.models import MOST_BUSY, Models
from services.coordinator.step_limit import StepLimit
from tests.algorithm.worlds import START
from tests.conftest import wait_until
from tests.services.conftest import ROLES, serving
from tests.services.test_compatibility import DRAFT, PRM, TARGET
from tests.system import ModelServices, System

NUM_PROBLEMS = 12
N = 4


class Engine:
    """What the three of this file share."""

    def __init__(self, info: Any) -> None:
        self.info = info

    async def wait_until_dead(self) -> str:
        await asyncio.Event().wait()
        return "never"

    def close(self) -> None:
        pass


class Writer(Engine):
    """A draft that writes candidate after candidate, slowly behind a wrong leader; it counts calls by their end."""

    def __init__(self) -> None:
        super().__init__(DRAFT)
        self.begun: list[tuple[int, ...]] = []
        self.cancelled: list[tuple[int, ...]] = []

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        self.begun.append(tuple(prefix))
        try:
            for index in range(n):
                if tuple(prefix)[-1] == WRONG:
                    await asyncio.sleep(60)
                yield [Candidate(index, (10 + index,), "a", -1.0, FinishReason.DELIMITER)]
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(tuple(prefix))
            raise


class Scorer(Engine):
    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: Any) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(candidate.index, -1.0) for candidate in batch]


class LateJudge(Engine):
    """A reward model that rates the best candidate last, after a while."""

    async def score(self, messages: Sequence[Any], steps: Sequence[str], candidates: Any) -> ScoreBatches:
        indices = sorted([candidate.index async for batch in candidates for candidate in batch])
        for index in indices:
            if index == BEST - 10:
                await asyncio.sleep(0.2)
            yield [Score(index, 0.6 + 0.1 * index)]


WRONG, BEST = 12, 13  # the tokens of the candidate that leads before the last score, and of the best


@asynccontextmanager
async def served(**engines: Engine) -> AsyncIterator[dict[str, Any]]:
    """Yield a connected client for each engine, by role."""
    kinds: dict[str, Any] = {"draft": DraftClient, "target": TargetClient, "prm": PrmClient}
    async with AsyncExitStack() as stack:
        clients = {}
        for role, engine in engines.items():
            servicer, _ = ROLES[role]

            async def load(engine: Any = engine) -> Any:
                return engine

            server = await stack.enter_async_context(serving(servicer.SERVICE, servicer.add_to_server, load))
            clients[role] = kinds[role](server.address, 30.0)
            stack.push_async_callback(clients[role].close)
            await wait_until(clients[role].is_serving, f"{role} serves")
        yield clients


async def test_a_draft_that_is_wasted_is_stopped_at_the_service() -> None:
    """Its engine writes nothing more for a candidate that was not drawn, while the next step is written."""
    writer = Writer()
    fates: Counter[Fate] = Counter()

    def note(fate: Fate) -> None:
        fates[fate] += 1

    async def keep(made: Round) -> None:
        pass

    params = Params(n=N, beta=1000.0, acceptance_threshold=0.0, stop=StopRules(max_steps=3))
    async with served(draft=writer, target=Scorer(TARGET), prm=LateJudge(PRM)) as clients:
        ports = Ports(**clients)
        answer, _ = await generate(
            START, params, ports, 1, keep=keep, max_length=1000, lookahead=Lookahead(lambda: True, note)
        )
        await wait_until(lambda: _has(len(writer.cancelled) == 2), "both are stopped")
    assert [step.token_ids for step in answer.steps] == [(BEST,)] * 3
    assert {prefix[-1] for prefix in writer.cancelled} == {WRONG}
    assert fates == {Fate.WASTED: 2, Fate.KEPT: 2}, "the right one is begun when the last score is there"
    assert len(writer.begun) == 5


async def _has(value: bool) -> bool:
    return value


async def test_the_shipped_models_write_the_same_answers(
    draft: DraftClient, target: TargetClient, prm: PrmClient
) -> None:
    """Three problems over gRPC with and without: same steps, same outcomes, same ends, and drafts that were kept."""
    fates: Counter[Fate] = Counter()

    def note(fate: Fate) -> None:
        fates[fate] += 1

    async def keep(made: Round) -> None:
        pass

    async def answer(prompt: str, seed: int, lookahead: Lookahead | None) -> list[Any]:
        messages = (Message("user", prompt),)
        start = Trajectory(Prompt(messages, await draft.render(messages)))
        ports, params = Ports(draft, target, prm), Params(n=N, sampling=SamplingParams(max_step_tokens=32))
        written, reason = await generate(start, params, ports, seed, keep=keep, max_length=511, lookahead=lookahead)
        return [reason, *((step.token_ids, step.outcome, step.finish_reason) for step in written.steps)]

    for seed, problem in enumerate(held_out_problems(3)):
        ahead = await answer(problem["prompt"], seed, Lookahead(lambda: True, note))
        assert ahead == await answer(problem["prompt"], seed, None)
    assert fates[Fate.KEPT] > 0


async def test_a_service_says_how_many_calls_it_serves() -> None:
    """A draft that serves half of its calls has no room ahead; neither has one that does not say."""
    assert busy_share_from_metadata(room_to_metadata(3, 12)) == 0.25
    for untold in (None, (("gsi-calls", "many"),), (("gsi-calls", "1/0"),)):
        assert busy_share_from_metadata(untold) == 1.0
    async with served(draft=Writer()) as clients:
        client: DraftClient = clients["draft"]
        others: Any = None
        models = Models(client, others, others, StepLimit(4), others, looks_ahead=True)
        assert not models.has_room_ahead(), "nobody has answered"
        async for _ in client.propose((1,), 1, SamplingParams(max_step_tokens=8), 0):
            pass
        assert client.busy_share == 1 / 256
        assert models.has_room_ahead()
        client.busy_share = MOST_BUSY
        assert not models.has_room_ahead()
        client.busy_share = 0.0
        models.step_limit.slow_down()
        assert not models.has_room_ahead(), "a service was full"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_system_s_answers_and_records_are_those_without_it(model_services: ModelServices, queue: str) -> None:
    """Twelve problems with the shipped models, some steps resampled: equal to the last number, but for the times."""
    async with model_services.coordinators(f"{queue}-off") as off:
        without = await answer_problems(off)
        assert off.metrics("coordinator-1")["gsi_drafts_ahead_total outcome=kept"] == 0
    async with model_services.coordinators(f"{queue}-on", settings={"GSI_COORDINATOR_LOOKAHEAD": "true"}) as on:
        ahead = await answer_problems(on)
        metrics = on.metrics("coordinator-1")
    assert ahead == without
    outcomes = Counter(step["outcome"] for record in ahead for step in record["steps"])
    assert min(outcomes["accepted"], outcomes["resampled"]) > 0
    assert metrics["gsi_drafts_ahead_total outcome=kept"] > 0


async def answer_problems(system: System) -> list[dict[str, Any]]:
    """Return what is recorded of each problem, without times and ids."""
    problems = held_out_problems(NUM_PROBLEMS)
    ids = [
        await system.client.submit(
            {"prompt": problem["prompt"], "params": {"n": N, "seed": seed, "keep_candidates": True}}
        )
        for seed, problem in enumerate(problems)
    ]
    return [_without_times(await system.finished(job_id)) for job_id in ids]


def _without_times(record: JobRecord) -> dict[str, Any]:
    steps = [step.model_dump() for step in record.steps]
    return {"state": record.state, "text": record.fields["text"], "steps": [_drop_seconds(step) for step in steps]}


def _drop_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_seconds(each) for key, each in value.items() if "seconds" not in key}
    return [_drop_seconds(each) for each in value] if isinstance(value, list | tuple) else value
