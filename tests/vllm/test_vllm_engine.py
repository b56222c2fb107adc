"""The vLLM engine keeps the contract of every engine, in both of its likelihoods; and behaviour of vLLM's own."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from gsi.algorithm.candidates import FinishReason
from gsi.algorithm.judging import JudgePrompt
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.log_probabilities import sum_if_sound
from gsi.engines.on_vllm.language import VllmEngine
from gsi.engines.on_vllm.proposals import make_sampling_params
from gsi.engines.on_vllm.suffix_scoring import ScoringPath
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.errors import InvalidRequestError, MisconfiguredError, RetryableError
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS, wait_until
from tests.engines.contract import MESSAGES, TOLERANCE, LanguageEngineContract, law, propose_all, score_all

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore")]


recomputed_before: dict[Likelihood, float] = {}  # by the engine's likelihood, when it had started


def count_recomputed() -> float:
    return REGISTRY.get_sample_value("gsi_scores_recomputed_total") or 0.0


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(Likelihood))
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    settings = EngineSettings(
        str(MODELS / "target"),
        num_threads=1,
        engine_args="--max-num-seqs 64",
        likelihood=request.param,
        temperature=2.0,
    )
    engine: Any = await LANGUAGE_ENGINES.load("vllm", settings)
    recomputed_before[request.param] = count_recomputed()
    yield engine
    engine.close()


class TestVllmEngine(LanguageEngineContract):
    """The shared contract."""


async def test_it_scores_suffixes_on_this_machine(engine: VllmEngine) -> None:
    """The probe at the start found a cached path sound: without a GPU it is SUFFIX, because NATIVE needs runner V2."""
    assert engine.scorer.path in {ScoringPath.SUFFIX, ScoringPath.NATIVE}


async def test_no_score_was_computed_twice(engine: VllmEngine) -> None:
    """Every answer over the prefix cache was sound, also for the contract's hundred random requests."""
    await score_all(engine, await propose_all(engine, 8, law(engine)), law(engine))
    assert count_recomputed() == recomputed_before[engine.info.likelihoods[0]]


async def test_an_unsound_score_is_computed_again_from_the_whole_prompt(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric counts it, and the caller gets the right number."""
    candidates = await propose_all(engine, 4, law(engine))
    expected = await score_all(engine, candidates, law(engine))
    asked = engine.scorer.score_by
    paths = []

    async def garbage(path: ScoringPath, prefix: tuple[int, ...], token_ids: tuple[int, ...]) -> float | None:
        paths.append(path)
        return await asked(path, prefix, token_ids) if path is ScoringPath.WHOLE else None

    monkeypatch.setattr(engine.scorer, "score_by", garbage)
    before = count_recomputed()
    assert await score_all(engine, candidates, law(engine)) == pytest.approx(expected, abs=TOLERANCE)
    distinct = len({candidate.token_ids for candidate in candidates})
    assert count_recomputed() - before == paths.count(ScoringPath.WHOLE) == distinct
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("values", "of", "what"),
    [([36.2, -1.0], [5, 6], "positive"), ([math.nan, -1.0], [5, 6], "no number"), ([-1.0, -1.0], [5, 7], "another")],
)
async def test_garbage_is_known_as_such(values: list[float], of: list[int], what: str) -> None:
    """A positive number, NaN, a number of another token, or a missing number makes no score."""
    assert sum_if_sound(values, of, [5, 6]) is None
    assert sum_if_sound(values[:1], of[:1], [5, 6]) is None
    assert sum_if_sound([-0.5, -1.0], [5, 6], [5, 6]) == -1.5


async def test_a_delimiter_of_two_tokens_ends_a_step(engine: VllmEngine) -> None:
    """A tokenizer may write it as two newlines; here vLLM may write newlines and one letter only."""
    newline, letter = engine._tokenizer.encode("\n")[-1], engine._tokenizer.encode("S")[-1]
    params = make_sampling_params(engine.info, law(engine, temperature=2.0), max_tokens=200)
    params.allowed_token_ids = [newline, letter]
    prefix = engine.render(MESSAGES)
    candidates = [await engine._sample(prefix, params, seed, 0) for seed in range(8)]
    assert {candidate.finish_reason for candidate in candidates} == {FinishReason.DELIMITER}
    for candidate in candidates:
        assert candidate.token_ids[-2:] == (newline, newline)
        assert candidate.text.index("\n\n") == len(candidate.text) - 2


async def test_judging_costs_no_context_that_was_read_before(engine: VllmEngine) -> None:
    """By vLLM's own count: the first judge of a step finds the context, a second one the step and the question too."""
    context = (engine.render(MESSAGES) * 20)[:320]
    await score_all(engine, [ReceivedTokens(0, (1,))], law(engine), context)
    step = (*context, *range(5, 25))
    await asyncio.sleep(0.2)  # the statistics of earlier requests have come
    for least in (320 - 32, 340 - 32):
        before = count_cached()
        await engine.judge(step, JudgePrompt.VERDICT.question)
        await wait_until_cached(before + least)


async def test_an_unsound_judgement_is_computed_again_from_the_whole_prompt(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a score is, label by label."""
    question = JudgePrompt.VERDICT.question
    expected = await engine.judge(engine.render(MESSAGES), question)

    async def lose(_prefix: Sequence[int], tokens: Sequence[int]) -> dict[int, float | None]:
        return dict.fromkeys(tokens)

    monkeypatch.setattr(engine.scorer, "_score_first_tokens", lose)
    found = await engine.judge(engine.render(MESSAGES), question)
    assert found.values == pytest.approx(expected.values, abs=1e-5)


async def test_scoring_costs_no_context_that_was_read_before(engine: VllmEngine) -> None:
    """By vLLM's own count it computes less than a block and a half of a cached context."""
    prefix = (engine.render(MESSAGES) * 20)[:400]
    candidate = ReceivedTokens(0, tuple(range(5, 25)))
    await score_all(engine, [candidate], law(engine), prefix)
    await asyncio.sleep(0.2)  # the statistics of earlier requests have come
    before = count_cached()
    again = ReceivedTokens(0, tuple(range(25, 45)))
    await score_all(engine, [again], law(engine), prefix)
    await wait_until_cached(before + 400 - 32)


def count_cached() -> float:
    name = "vllm:prompt_tokens_cached_total"
    return sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)


async def wait_until_cached(num_tokens: float) -> None:
    """Statistics come after the answer."""

    async def is_counted() -> bool:
        return count_cached() >= num_tokens

    await wait_until(is_counted, f"{num_tokens:.0f} tokens came from the cache")


async def test_a_step_is_warm_from_the_step_before(engine: VllmEngine) -> None:
    """The engine has written or scored the chosen candidate, so the next context is cached but for its end."""
    (first,) = await propose_all(engine, 1, law(engine), seed=1)
    prefix = (*engine.render(MESSAGES), *first.token_ids)
    await asyncio.sleep(0.2)  # the statistics of earlier requests have come
    before = count_cached()
    async for _ in engine.propose(prefix, 1, law(engine), 2):
        pass
    await wait_until_cached(before + len(prefix) - 32)


async def test_a_closed_proposal_is_aborted(engine: VllmEngine) -> None:
    """vLLM has no unfinished request left, though each would have filled the context."""
    endless = law(engine, temperature=2.0)
    async with aclosing(engine.propose(engine.render(MESSAGES), 64, endless, 0)) as stream:
        await anext(stream)

    async def none_left() -> bool:
        return bool(engine.core._llm.get_num_unfinished_requests() == 0)

    await wait_until(none_left, "no request is left")


async def test_equal_candidates_are_scored_once(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small draft repeats itself; the target need not."""
    num_asked = 0
    asked = engine.scorer.score_by

    async def counting(path: ScoringPath, prefix: tuple[int, ...], token_ids: tuple[int, ...]) -> float | None:
        nonlocal num_asked
        num_asked += 1
        return await asked(path, prefix, token_ids)

    monkeypatch.setattr(engine.scorer, "score_by", counting)
    values = await score_all(engine, [ReceivedTokens(index, (5, 6, 7)) for index in range(8)], law(engine))
    monkeypatch.undo()
    assert (num_asked, len(set(values))) == (1, 1)


async def test_what_the_engine_is_not_set_to_is_refused(engine: VllmEngine) -> None:
    """The error names the value and the value allowed."""
    (own,) = engine.info.likelihoods
    (other,) = set(Likelihood) - {own}
    refused = [(SamplingParams(likelihood=other), f"likelihood is {other}; allowed: {own}")]
    if own is Likelihood.SAMPLING:
        refused += [
            (SamplingParams(temperature=0.7), "temperature is 0.7; allowed: 2.0"),
            (SamplingParams(temperature=2.0, top_p=0.9), "top_p is 0.9; allowed: 1"),
        ]
    for sampling, message in refused:
        with pytest.raises(InvalidRequestError, match=message):
            await anext(engine.propose([1, 2], 1, sampling, 0))
        with pytest.raises(InvalidRequestError, match=message):
            await score_all(engine, [ReceivedTokens(0, (5,))], sampling)


async def test_an_engine_with_too_many_waiting_requests_says_when_to_come_back(engine: VllmEngine) -> None:
    """The count is that of vLLM's own queue, and requests that vLLM has taken go on."""
    engine.core._max_waiting = 0
    proposals = asyncio.create_task(propose_all(engine, 512, law(engine, temperature=2.0)))

    async def is_full() -> bool:
        return engine.core._queue.num_waiting > 0

    await wait_until(is_full, "requests wait")
    with pytest.raises(RetryableError, match="requests wait in the engine; allowed: 0") as refused:
        await score_all(engine, [ReceivedTokens(0, (5,))], law(engine))
    assert refused.value.retry_after_seconds
    assert len(await proposals) == 512
    engine.core._max_waiting = 1024


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tensor-parallel-sise 2", "engine_args: unrecognized arguments: --tensor-parallel-sise 2"),
        ("--max-num-seqs many", "engine_args: argument --max-num-seqs: .*many"),
        ("--logprobs-mode processed_logprobs", "engine_args: --logprobs-mode is this service's to set"),
    ],
)
async def test_a_wrong_engine_argument_is_named(arguments: str, message: str) -> None:
    """vLLM's own parser finds it before anything is loaded."""
    with pytest.raises(MisconfiguredError, match=message):
        await LANGUAGE_ENGINES.load("vllm", EngineSettings(str(MODELS / "target"), engine_args=arguments))
