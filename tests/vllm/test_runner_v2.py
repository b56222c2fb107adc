"""vLLM's model runner V2, the one of GPUs: it writes and scores by the law, alone and among many jobs."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
import torch
from prometheus_client import REGISTRY
from scipy import stats

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.judging import JudgePrompt
from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS, wait_until
from tests.engines.contract import (
    MESSAGES,
    TOLERANCE,
    check_scores,
    law,
    propose_all,
    reference,
    reference_judgement,
    reference_log_likelihood,
    score_all,
)
from tests.vllm.runner_v2 import model_runner_v2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),  # an engine starts
]

BLOCK = 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    settings = EngineSettings(
        str(MODELS / "target"), num_threads=1, engine_args=f"--max-num-seqs 16 --block-size {BLOCK}"
    )
    with model_runner_v2():
        engine: Any = await LANGUAGE_ENGINES.load("vllm", settings)
        yield engine
        engine.close()


async def test_the_runner_scores_given_tokens_by_itself(engine: VllmEngine) -> None:
    """The probe at the start found this path sound, and no likelihood has needed the whole prompt since."""
    assert engine.core.config.use_v2_model_runner
    assert engine.scorer.path is ScoringPath.NATIVE
    before = count_recomputed()
    await score_all(engine, await propose_all(engine, 4, law(engine)), law(engine))
    assert count_recomputed() == before


def count_recomputed() -> float:
    return REGISTRY.get_sample_value("gsi_scores_recomputed_total") or 0.0


async def test_likelihoods_are_those_of_a_plain_forward_pass(engine: VllmEngine) -> None:
    """This holds for what the engine writes and for what it scores; a step ends with its delimiter."""
    candidates = await propose_all(engine, 8, law(engine))
    prefix = engine.render(MESSAGES)
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, candidates, law(engine)) == pytest.approx(expected, abs=TOLERANCE)
    assert all(c.text.endswith("\n\n") for c in candidates if c.finish_reason is FinishReason.DELIMITER)


@pytest.mark.parametrize("prompt", JudgePrompt)
async def test_a_judgement_is_that_of_a_plain_forward_pass(engine: VllmEngine, prompt: JudgePrompt) -> None:
    """Behind the prefix and a turn of the user."""
    question, prefix, (_, tokenizer) = prompt.question, engine.render(MESSAGES), reference("target")
    turn = f"<|im_end|>\n<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n{question.opening}"
    expected = reference_judgement([*prefix, *tokenizer.encode(turn)], question)
    for _ in range(2):
        assert (await engine.judge(prefix, question)).values == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("num_prefix", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
async def test_a_score_is_right_on_both_sides_of_a_block_s_end(engine: VllmEngine, num_prefix: int) -> None:
    """Candidates may begin alike, fill a block, be a token long, and have been scored before."""
    draw = random.Random(num_prefix)
    prefix = tuple(draw.randrange(engine.info.vocabulary_size) for _ in range(num_prefix))
    start = [draw.randrange(engine.info.vocabulary_size) for _ in range(BLOCK)]
    rows = [start, start[:1], start[:20], [*start, *start[:5]], start[::-1]]
    candidates = [ReceivedTokens(index, tuple(row)) for index, row in enumerate(rows)]
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    for _ in range(2):
        check_scores(await score_all(engine, candidates, law(engine), prefix), expected, candidates)


async def test_a_block_s_end_has_room_for_more_first_tokens_than_a_request_may_have(engine: VllmEngine) -> None:
    """vLLM gives log-probabilities of at most 128 tokens a request."""
    prefix = (engine.render(MESSAGES) * 3)[: 2 * BLOCK]
    candidates = [ReceivedTokens(index, (index + 10,)) for index in range(150)]
    expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
    assert await score_all(engine, candidates, law(engine), prefix) == pytest.approx(expected, abs=TOLERANCE)


async def test_tokens_are_drawn_from_the_sampling_law(engine: VllmEngine) -> None:
    """A chi-square test of 300 first tokens against softmax(logits / T) of a plain forward pass."""
    sampling, prefix = law(engine, max_step_tokens=1), engine.render(MESSAGES)[:-5]  # five tokens are likely there
    drawn: Counter[int] = Counter()
    async for batch in engine.propose(prefix, 300, sampling, 5):
        drawn.update(candidate.token_ids[0] for candidate in batch)
    model, _ = reference("target")
    with torch.inference_mode():
        logits = model(torch.tensor([prefix])).logits[0, -1].double()
    expected = 300 * torch.softmax(logits / sampling.temperature, dim=-1)
    common = [token for token in range(len(expected)) if expected[token] >= 5]
    rest = 300 - sum(drawn[token] for token in common), 300 - float(expected[common].sum())
    assert len(common) >= 2
    laws = [*(drawn[token] for token in common), rest[0]], [*expected[common].tolist(), rest[1]]
    assert stats.chisquare(*laws).pvalue > 1e-4


async def test_greedy_is_the_argmax(engine: VllmEngine) -> None:
    """Every token is that of a plain forward pass."""
    prefix, (model, _) = engine.render(MESSAGES), reference("target")
    (written,) = await propose_all(engine, 1, SamplingParams(temperature=0.0))
    with torch.inference_mode():
        logits = model(torch.tensor([[*prefix, *written.token_ids]])).logits[0, len(prefix) - 1 : -1]
    assert list(written.token_ids) == logits.argmax(dim=-1).tolist()


async def test_many_jobs_at_once_get_what_each_gets_alone(engine: VllmEngine) -> None:
    """More requests than the engine runs at a time, of jobs that write and of jobs that score."""
    prefixes = [engine.render(MESSAGES)[: -index - 1] for index in range(6)]

    async def work(prefix: tuple[int, ...]) -> tuple[list[Candidate], list[float]]:
        written = [c async for batch in engine.propose(prefix, 4, law(engine, max_step_tokens=8), 1) for c in batch]
        written.sort(key=lambda candidate: candidate.index)
        return written, await score_all(engine, written, law(engine), prefix)

    together = await asyncio.gather(*map(work, prefixes))
    alone = await work(prefixes[0])
    assert [c.token_ids for c in together[0][0]] == [c.token_ids for c in alone[0]]
    for prefix, (written, values) in zip(prefixes, together, strict=True):
        expected = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in written]
        assert values == pytest.approx(expected, abs=TOLERANCE)
        assert [candidate.log_likelihood for candidate in written] == pytest.approx(expected, abs=TOLERANCE)


async def test_a_closed_proposal_is_aborted(engine: VllmEngine) -> None:
    """vLLM has no unfinished request left, and the engine goes on with others."""
    async with aclosing(engine.propose(engine.render(MESSAGES), 24, law(engine), 0)) as stream:
        await anext(stream)

    async def none_left() -> bool:
        return bool(engine.core._llm.get_num_unfinished_requests() == 0)

    await wait_until(none_left, "no request is left")
    assert len(await propose_all(engine, 2, law(engine, max_step_tokens=2))) == 2
