"""The texts of an engine's steps, put together, are the text of all their tokens, wherever a limit cuts."""

from gsi.algorithm.candidates import FinishReason, Message
from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.registry import LANGUAGE_ENGINES
from tests.conftest import MODELS


async def test_steps_that_are_cut_inside_a_character_add_up() -> None:
    """At a high temperature the shipped draft writes bytes of many characters, and whole characters by chance."""
    settings = EngineSettings(str(MODELS / "draft"), num_threads=1)
    engine = await LANGUAGE_ENGINES.load("transformers", settings)
    tokenizer, prompt = Tokenizer(settings.model, None), engine.render((Message("user", "Write €."),))
    sampling = SamplingParams(temperature=100.0, max_step_tokens=1)
    tokens = [*prompt, tokenizer.encode("€")[0]]  # a prefix that ends inside of a character
    text, reason = "", FinishReason.LENGTH
    num_cut = 0
    for seed in range(150):
        if reason is not FinishReason.LENGTH:
            break
        (candidate,) = [one async for batch in engine.propose(tokens, 1, sampling, seed) for one in batch]
        tokens += candidate.token_ids
        text += candidate.text
        reason = candidate.finish_reason
        num_cut += not candidate.text
    engine.close()
    written = tokenizer.decode(tokens[len(prompt) :])
    assert num_cut > 3
    assert text == written or text == written.rstrip("\ufffd")
