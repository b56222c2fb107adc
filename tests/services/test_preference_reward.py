"""A preference as the reward: an outcome model that dislikes a word, behind real gRPC, and GSI over whole responses."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from examples.preference import COST, GOOD, WORD, write_reward_model
from gsi.algorithm.candidates import Message, Outcome, Population, Prompt, Trajectory, grow
from gsi.algorithm.generate import generate
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.engines.base import EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.jobs.job_params import JobParams
from gsi.local.demo import held_out_problems
from tests.conftest import MODELS, wait_until
from tests.services.conftest import ROLES, TIMEOUT_SECONDS, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_PROBLEMS = 16
GSI = "gsi:responses:n=8:beta=4:u=0:reward_map=raw"


@dataclass
class Written:
    """What a job wrote: all responses as they ended, how many rounds the target wrote, and the answer."""

    prompt: Trajectory
    population: Population = ()
    num_resampled: int = 0
    answer: str = ""


@dataclass
class Services:
    """The three services by their clients."""

    ports: Ports
    draft: Any

    async def write_all(self, method: str) -> list[Written]:
        problems = held_out_problems(NUM_PROBLEMS)
        return [await self._write(one["prompt"], method, seed) for seed, one in enumerate(problems)]

    async def _write(self, problem: str, method: str, seed: int) -> Written:
        params: Params = JobParams.model_validate({"method": method}).to_params()
        messages = (Message("user", problem),)
        rendered = await self.draft.render(messages)
        written = Written(Trajectory(Prompt(messages, rendered)))
        written.population = METHODS[params.method].start(written.prompt, params)

        async def keep(made: Round) -> None:
            written.population = grow(written.population, made.branches)
            steps = [branch.step for branch in made.branches if branch.step is not None]
            written.num_resampled += any(step.outcome is Outcome.RESAMPLED for step in steps)

        answer, _ = await generate(written.prompt, params, self.ports, seed, keep=keep, max_length=512)
        written.answer = answer.text
        return written


@pytest.fixture(scope="module")
def preference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference") / "model"
    write_reward_model(folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def services(preference: Path) -> AsyncIterator[Services]:
    """Draft, a target that is cheap to run, and the preference as PRM: each a gRPC server on a port of its own."""
    models = {"draft": MODELS / "draft", "target": MODELS / "shallow-target", "prm": preference}
    clients: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for role, (servicer, kind) in ROLES.items():
            engines: Any = REWARD_ENGINES if role == "prm" else LANGUAGE_ENGINES
            load = partial(engines.load, "transformers", EngineSettings(str(models[role]), num_threads=1))
            server = await stack.enter_async_context(serving(servicer.SERVICE, servicer.add_to_server, load))
            clients[role] = client = kind(server.address, TIMEOUT_SECONDS)
            stack.push_async_callback(client.close)
            await wait_until(client.is_serving, f"{role} serves")
        yield Services(Ports(**clients), clients["draft"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guided(services: Services) -> list[Written]:
    return await services.write_all(GSI)


def chance_of_so_many(without: int, without_before: int, num: int) -> float:
    """Return Fisher's exact one-sided p: two rows of ``num`` answers with one law differ by so much or more."""
    total = without + without_before
    ways = [math.comb(num, k) * math.comb(num, total - k) for k in range(without, min(num, total) + 1)]
    return sum(ways) / math.comb(2 * num, total)


async def test_the_answers_move_to_what_the_reward_prefers(services: Services, guided: list[Written]) -> None:
    """Against the draft alone on the same problems, more answers do without the word than chance explains."""
    alone = await services.write_all("draft")
    before, after = (sum(WORD not in one.answer for one in written) for written in (alone, guided))
    assert chance_of_so_many(after, before, NUM_PROBLEMS) < 0.001, (before, after)


async def test_a_response_is_rated_by_its_whole_text(guided: list[Written], preference: Path) -> None:
    """Its reward is the model's own value of problem and whole answer. Half an answer has none: it may be misread."""
    tokenizer = AutoTokenizer.from_pretrained(preference)
    model = AutoModelForSequenceClassification.from_pretrained(preference).eval()
    (word_id,) = tokenizer.encode(WORD)
    for written in guided:
        for response in (one for one in written.population if one.steps):
            turns = [{"role": "user", "content": written.prompt.prompt.messages[0].content}]
            turns += [{"role": "assistant", "content": response.text}]
            token_ids = tokenizer.apply_chat_template(turns, return_dict=False)
            with torch.inference_mode():
                value = float(model(torch.tensor([token_ids])).logits[0, 0])
            share = token_ids.count(word_id) / len(token_ids)
            assert value == pytest.approx((GOOD - COST * share) / math.hypot(1, share), abs=0.01)
            assert response.steps[-1].reward == pytest.approx(value, abs=1e-4)
            assert all(math.isnan(step.reward) for step in response.steps[:-1])


async def test_rewards_of_any_size_select_and_reject(guided: list[Written]) -> None:
    """Values far outside [0, 1], on both sides, reach the rule unchanged; u is on their scale."""
    responses = [one for written in guided for one in written.population if one.steps]
    rewards = [one.steps[-1].reward for one in responses if one.steps[-1].reward is not None]
    assert min(rewards) < -1
    assert max(rewards) > 4
    is_resampled = [written.num_resampled > 0 for written in guided]
    assert True in is_resampled
    assert False in is_resampled
