"""The last layer on transformers: it writes no id without a token, and may compute more exactly than the others."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import SAME_AS_MODEL, EngineSettings
from gsi.engines.on_transformers.language import TransformersEngine
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.errors import InvalidRequestError
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, law, propose_all, reference_log_likelihood, score_all
from tests.engines.language_checkpoints import WIDTH, log_law, log_likelihood, write_mistral

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFIX = tuple(range(7, 47))
Loaded = tuple[TransformersEngine, Path]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loaded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Loaded]:
    checkpoint = write_mistral(tmp_path_factory.mktemp("mistral") / "model")
    engine: Any = await LANGUAGE_ENGINES.load("transformers", EngineSettings(str(checkpoint), num_threads=1))
    yield engine, checkpoint
    engine.close()


async def test_an_id_without_a_token_is_never_written(loaded: Loaded) -> None:
    """The last layer alone would have written some among 1,000 first tokens."""
    engine, checkpoint = loaded
    plain = AutoModelForCausalLM.from_pretrained(checkpoint)(torch.tensor([PREFIX])).logits[0, -1]
    assert (plain / 1.5).softmax(dim=-1)[engine.info.vocabulary_size :].sum() > 0.01
    drawn: Counter[int] = Counter()
    async for batch in engine.propose(PREFIX, 1000, SamplingParams(temperature=1.5, max_step_tokens=1), 3):
        drawn.update(candidate.token_ids[0] for candidate in batch)
    assert max(drawn) < engine.info.vocabulary_size < WIDTH


@pytest.mark.parametrize("likelihood", list(Likelihood))
async def test_a_likelihood_is_of_the_law_over_the_tokens(loaded: Loaded, likelihood: Likelihood) -> None:
    """Samples and scores have the law that sums to 1 over the tokenizer's tokens."""
    engine, checkpoint = loaded
    sampling = SamplingParams(temperature=0.7, max_step_tokens=4, likelihood=likelihood)
    temperature = 0.7 if likelihood is Likelihood.SAMPLING else 1.0
    written = [c async for batch in engine.propose(PREFIX, 16, sampling, 3) for c in batch]
    expected = [log_likelihood(checkpoint, PREFIX, candidate.token_ids, temperature) for candidate in written]
    assert [candidate.log_likelihood for candidate in written] == pytest.approx(expected, abs=TOLERANCE)
    assert await score_all(engine, written, sampling, PREFIX) == pytest.approx(expected, abs=TOLERANCE)
    assert float(log_law(checkpoint, PREFIX, temperature)[-1].exp().sum()) == pytest.approx(1.0)


async def test_an_id_without_a_token_is_refused(loaded: Loaded) -> None:
    """The error names the id and the ids allowed, which are the tokenizer's."""
    engine, _ = loaded
    allowed = engine.info.vocabulary_size - 1
    with pytest.raises(InvalidRequestError, match=f"candidate has token id {WIDTH - 1}; allowed: 0 to {allowed}"):
        await score_all(engine, [ReceivedTokens(0, (5, WIDTH - 1))], SamplingParams(), PREFIX)
    with pytest.raises(InvalidRequestError, match=f"prefix has token id {WIDTH - 1}; allowed: 0 to {allowed}"):
        await score_all(engine, [ReceivedTokens(0, (5,))], SamplingParams(), (*PREFIX, WIDTH - 1))


async def test_a_last_layer_in_single_precision_loses_less() -> None:
    """In a model of bfloat16, likelihoods come nearer to those of single precision."""
    errors = {}
    for head_dtype in (SAME_AS_MODEL, "float32"):
        settings = EngineSettings(str(MODELS / "target"), num_threads=1, dtype="bfloat16", head_dtype=head_dtype)
        engine: Any = await LANGUAGE_ENGINES.load("transformers", settings)
        candidates = await propose_all(engine, 8, law(engine))
        prefix = engine.render(MESSAGES)
        values = await score_all(engine, candidates, law(engine))
        exact = [reference_log_likelihood(prefix, candidate.token_ids, law(engine)) for candidate in candidates]
        errors[head_dtype] = sum(abs(value - other) for value, other in zip(values, exact, strict=True))
        assert engine.info.dtype == "bfloat16"
        logits = engine._model._passes._model(torch.tensor([prefix])).logits
        assert logits.dtype is (torch.bfloat16 if head_dtype == SAME_AS_MODEL else torch.float32)
        engine.close()
    assert errors["float32"] < errors[SAME_AS_MODEL]
