"""A model that caps its attention's logits softly, as Gemma 2 does, has its own likelihoods on transformers."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, TOLERANCE, score_all

TOKENS = tuple(range(40, 60))
NUM_IDS = Tokenizer(str(MODELS / "draft"), None).num_ids  # an engine writes no other ids


def write_gemma(folder: Path) -> str:
    """Write a tiny random Gemma 2 with large attention logits, which the cap changes."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=16,
        max_position_embeddings=512,
        attn_logit_softcapping=0.5,
        initializer_range=0.5,
    )
    Gemma2ForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODELS / "draft" / name, folder)
    return str(folder)


def plain_likelihood(model: str, attention: str, prefix: tuple[int, ...]) -> float:
    """Return log pi(TOKENS | prefix) in nats by a forward pass without cache."""
    gemma = Gemma2ForCausalLM.from_pretrained(model, attn_implementation=attention).eval()
    with torch.inference_mode():
        logits = gemma(torch.tensor([[*prefix, *TOKENS]])).logits[0, len(prefix) - 1 : -1, :NUM_IDS].double()
    return float(logits.log_softmax(-1)[range(len(TOKENS)), list(TOKENS)].sum())


async def test_the_likelihood_is_that_of_the_attention_with_the_cap(tmp_path: Path) -> None:
    """The default attention of transformers leaves the cap out, and is off by more than rounding."""
    model = write_gemma(tmp_path)
    engine = await LANGUAGE_ENGINES.load("transformers", EngineSettings(model, num_threads=1))
    prefix = engine.render(MESSAGES)
    sampling = SamplingParams(temperature=1.0, likelihood=Likelihood.MODEL)
    (scored,) = await score_all(engine, [ReceivedTokens(0, TOKENS)], sampling)
    engine.close()
    assert scored == pytest.approx(plain_likelihood(model, "eager", prefix), abs=TOLERANCE)
    assert abs(plain_likelihood(model, "sdpa", prefix) - scored) > 100 * TOLERANCE
