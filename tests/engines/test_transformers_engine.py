"""The transformers engine keeps the contract, and stops when it is not read."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from gsi.algorithm.candidates import Candidate, FinishReason
from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.prefix_engine import PrefixModel
from gsi.engines.registry import load_language_engine
from gsi.engines.sampling_engine import SamplingBatch
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, LanguageEngineContract


@pytest.fixture(scope="module")
def engine() -> Iterator[LanguageEngine]:
    engine = load_language_engine("transformers", EngineSettings(str(MODELS / "target"), num_threads=1))
    yield engine
    engine.close()


class TestTransformersEngine(LanguageEngineContract):
    """The shared contract."""


async def test_a_proposal_that_is_closed_writes_no_further_token(
    engine: LanguageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling costs no more than the token in flight."""
    num_tokens = 0
    advance = SamplingBatch.advance

    def counted(batch: SamplingBatch) -> list[Candidate]:
        nonlocal num_tokens
        num_tokens += 1
        return advance(batch)

    monkeypatch.setattr(SamplingBatch, "advance", counted)
    sampling = SamplingParams(temperature=5.0, max_step_tokens=200)
    async with aclosing(engine.propose(engine.render(MESSAGES), 64, sampling, 0)) as stream:
        await anext(stream)
        at_first_candidate = num_tokens
    await anext(engine.propose(engine.render(MESSAGES), 1, SamplingParams(max_step_tokens=1), 0))
    assert num_tokens == at_first_candidate + 1


PIECES = {0: "a", 1: "\n", 2: "b\n", 3: ".\n\n", 4: "\n\nc", 5: ""}  # ends of real vocabularies; 5 ends the sequence


def decode(token_ids: Sequence[int]) -> str:
    return "".join(PIECES[token] for token in token_ids)


def test_a_boundary_is_found_whichever_tokens_write_it() -> None:
    """One token, or two that each hold a newline: the token that completes the delimiter ends the step."""
    config = Qwen2Config(
        vocab_size=6,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    model = PrefixModel(Qwen2ForCausalLM(config), max_length=64, device="cpu", num_threads=1)
    batch = SamplingBatch(model, model.read([0]), 200, SamplingParams(temperature=5.0), 1, {5}, decode)
    candidates = []
    while not batch.is_finished:
        candidates += batch.advance()
    model.close()
    reasons = {candidate.finish_reason for candidate in candidates}
    assert {FinishReason.DELIMITER, FinishReason.EOS} <= reasons
    for candidate in candidates:
        before_last = decode(candidate.token_ids[:-1])
        assert "\n\n" not in before_last
        assert ("\n\n" in candidate.text) == (candidate.finish_reason is FinishReason.DELIMITER)
        assert candidate.text == decode(candidate.token_ids)
