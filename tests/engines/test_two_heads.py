"""A merged target and PRM as one model with two heads: the numbers of two engines, from one pass."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from gsi.algorithm.params import SamplingParams
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.hugging_face.merging import Merge, merge
from gsi.engines.on_transformers.shared_layers import SharedLayers
from gsi.engines.on_transformers.two_heads import LanguageHead, RewardHead, load_two_heads
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import InternalError, MisconfiguredError
from gsi.rpc.convert import ReceivedText, ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import (
    MESSAGES,
    PROMPT,
    STEPS,
    LanguageEngineContract,
    propose_all,
    rate_all,
    score_all,
)
from tests.engines.merged_checkpoints import write_head_on, write_language, write_merged
from tests.engines.reward_checkpoints import classifier

PROFILE = "qwen2.5-math-prm-one-mark"
TOLERANCE = 1e-5
SAMPLING = SamplingParams(temperature=1.3)

Heads = tuple[LanguageHead, RewardHead]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_merged(tmp_path_factory.mktemp("checkpoints"))


def settings(folder: Path, role: str, **other: object) -> EngineSettings:
    profile = {"profile": PROFILE} if role == "prm" else {}
    return EngineSettings(str(folder / role), num_threads=1, **{**profile, **other})  # type: ignore[arg-type]


@pytest.fixture
async def heads(merged: Path) -> AsyncIterator[Heads]:
    target, prm = await load_two_heads(settings(merged, "target"), settings(merged, "prm"))
    yield target, prm
    target.close()
    prm.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageEngine]:
    """The shipped target, with a random PRM's head beside its own on the same layers."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "target").symlink_to(MODELS / "target")
    write_head_on(MODELS / "target", folder / "prm")
    target, prm = asyncio.run(load_two_heads(settings(folder, "target"), settings(folder, "prm")))
    yield target
    target.close()
    prm.close()


class TestLanguageHead(LanguageEngineContract):
    """The shared contract: what any engine of a target does."""


def count_passes(heads: Heads, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that gets, for each later pass over the layers, the tokens of each of its rows."""
    found: list[list[int]] = []
    layers: SharedLayers = heads[0]._layers
    run = layers._passes.run

    def note(parts: Sequence[object]) -> None:
        found.append([len(row) for part in parts for row in part.rows])  # type: ignore[attr-defined]
        run(parts)  # type: ignore[arg-type]

    monkeypatch.setattr(layers._passes, "run", note)
    return found


@dataclass(frozen=True)
class Written:
    """What a draft wrote: texts whose tokens are those that the tokenizer reads in them, the last with an end token."""

    prefix: tuple[int, ...]  # the conversation, and a kept step
    tokens: Sequence[ReceivedTokens]
    texts: Sequence[ReceivedText]


@pytest.fixture(scope="module")
def written(merged: Path) -> Written:
    tokenizer = AutoTokenizer.from_pretrained(merged / "target")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], add_generation_prompt=True, return_dict=False
    )
    texts = [f"On Tuesday she uses {used} shells, so Mia now has 38 - {used} = {38 - used}.\n\n" for used in (7, 8, 18)]
    texts += [texts[0], "So Mia has 20.\n", "The answer is \\boxed{20}"]
    rows = [tuple(tokenizer.encode(text)) for text in texts]
    rows[-1] += (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    return Written(
        (*prompt, *tokenizer.encode(STEPS[0])),
        [ReceivedTokens(index, row) for index, row in enumerate(rows)],
        [ReceivedText(index, text) for index, text in enumerate(texts)],
    )


async def ask_both(heads: Heads, written: Written) -> tuple[list[float], list[float]]:
    """Return likelihoods and rewards, asked for at the same moment."""
    scores = score_all(heads[0], written.tokens, SAMPLING, written.prefix)
    likelihoods, rewards = await asyncio.gather(scores, rate_all(heads[1], written.texts))
    return likelihoods, rewards


@pytest.fixture(scope="module")
def apart(merged: Path, written: Written) -> tuple[list[float], list[float]]:
    """Likelihoods and rewards by two engines, each with layers of its own."""

    async def ask() -> tuple[list[float], list[float]]:
        target = await LANGUAGE_ENGINES.load("transformers", settings(merged, "target"))
        prm = await REWARD_ENGINES.load("transformers", settings(merged, "prm"))
        likelihoods = await score_all(target, written.tokens, SAMPLING, written.prefix)
        rewards = await rate_all(prm, written.texts)
        target.close()
        prm.close()
        return likelihoods, rewards

    return asyncio.run(ask())


@pytest.mark.parametrize("order", ["target first", "prm first", "together"])
@pytest.mark.parametrize("is_batched", [True, False])
async def test_both_heads_give_what_two_engines_give(
    merged: Path, written: Written, apart: tuple[list[float], list[float]], order: str, is_batched: bool
) -> None:
    """Likelihoods (nats) and rewards within 1e-5, whichever head is asked first, and both at once."""
    target, prm = await load_two_heads(
        settings(merged, "target", batching=is_batched), settings(merged, "prm", batching=is_batched)
    )
    if order == "together":
        likelihoods, rewards = await ask_both((target, prm), written)
    elif order == "prm first":
        rewards = await rate_all(prm, written.texts)
        likelihoods = await score_all(target, written.tokens, SAMPLING, written.prefix)
    else:
        likelihoods = await score_all(target, written.tokens, SAMPLING, written.prefix)
        rewards = await rate_all(prm, written.texts)
    assert likelihoods == pytest.approx(apart[0], abs=TOLERANCE)
    assert rewards == pytest.approx(apart[1], abs=TOLERANCE)
    target.close()
    prm.close()


async def test_one_pass_serves_both_heads(heads: Heads, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix and its candidates are read once, though both heads ask at the same moment."""
    passes = count_passes(heads, monkeypatch)
    await ask_both(heads, written)
    different = {one.token_ids for one in written.tokens}
    assert [len(rows) for rows in passes] == [1, len(different)]
    assert passes[0] == [len(written.prefix)]
    assert not heads[0]._layers._rows  # each head has read each row


async def test_a_candidate_that_the_prm_reads_otherwise_is_still_scored(heads: Heads, merged: Path) -> None:
    """Here its tokens are not those of its text: it is read for each head, and both values are right."""
    target, prm = heads
    prefix = target.render(MESSAGES)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "prm")
    letters = tuple(token for letter in "Mia has 3" for token in tokenizer.encode(letter))
    candidate = ReceivedTokens(0, letters)
    alone = await LANGUAGE_ENGINES.load("transformers", settings(merged, "target"))
    expected = await score_all(alone, [candidate], SAMPLING, prefix)
    assert await score_all(target, [candidate], SAMPLING, prefix) == pytest.approx(expected, abs=TOLERANCE)
    text = ReceivedText(0, tokenizer.decode(letters))
    apart = await REWARD_ENGINES.load("transformers", settings(merged, "prm"))
    assert await rate_all(prm, [text], ()) == pytest.approx(await rate_all(apart, [text], ()), abs=TOLERANCE)
    alone.close()
    apart.close()


async def test_a_caller_that_leaves_takes_nothing_from_the_other(
    heads: Heads, written: Written, apart: tuple[list[float], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PRM's call ends while its pass runs; the target's has the pass's result."""
    target, prm = heads
    has_begun = asyncio.Event()
    begin = target._layers._begin

    def note(*given: Any) -> Any:
        has_begun.set()
        return begin(*given)

    monkeypatch.setattr(target._layers, "_begin", note)
    rating = asyncio.create_task(rate_all(prm, written.texts))
    await has_begun.wait()
    rating.cancel()
    likelihoods = await score_all(target, written.tokens, SAMPLING, written.prefix)
    assert likelihoods == pytest.approx(apart[0], abs=TOLERANCE)


async def test_a_pass_that_fails_fails_for_both_and_is_tried_again(
    heads: Heads, written: Written, apart: tuple[list[float], list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a failed pass is kept."""
    target, prm = heads
    await target._layers.read_prefix(written.prefix)
    model = target._layers._passes._model

    class Broken(torch.nn.Module):
        def forward(self, **_: object) -> None:
            raise InternalError("no memory")

    monkeypatch.setattr(target._layers._passes, "_model", Broken())
    calls = (score_all(target, written.tokens, SAMPLING, written.prefix), rate_all(prm, written.texts))
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(error) for error in failed] == ["no memory"] * 2
    monkeypatch.setattr(target._layers._passes, "_model", model)
    assert (await ask_both(heads, written))[0] == pytest.approx(apart[0], abs=TOLERANCE)


async def test_what_waits_for_the_other_head_has_a_limit(
    heads: Heads, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that asks for rewards alone leaves readings that nobody takes: the oldest go."""
    target, prm = heads
    monkeypatch.setattr("gsi.engines.on_transformers.shared_layers.MOST_TOKENS", 40)
    for text in written.texts[:3]:
        await rate_all(prm, [text])
    waiting = [len(row) for _, row in target._layers._rows]
    assert 0 < len(waiting) < 3
    assert target._layers._num_tokens == sum(waiting) <= 40


async def test_the_layers_are_in_memory_once(heads: Heads) -> None:
    """The PRM's head is all that its checkpoint adds."""
    target, prm = heads
    assert prm._layers is target._layers
    owner = prm._head.__self__  # type: ignore[attr-defined]
    assert owner.base_model is target._layers._passes._model.layers


async def test_the_layers_end_with_the_last_head(merged: Path) -> None:
    """A service that has drained does not take the layers from the other one."""
    target, prm = await load_two_heads(settings(merged, "target"), settings(merged, "prm"))
    target.close()
    assert len(await rate_all(prm, [ReceivedText(0, "1 + 1 = 2.\n\n")])) == 1
    prm.close()
    with pytest.raises(RuntimeError, match="closed"):
        await target._layers.read_prefix((1, 2, 3))


async def test_a_prm_with_marks_behind_kept_steps_is_refused(merged: Path) -> None:
    """The target must not see the marks, and the PRM's tokens would be others than the target's."""
    with pytest.raises(MisconfiguredError, match=r"GSI_PRM_PROFILE: .*reads other tokens.*mark_kept = false or rates"):
        await load_two_heads(settings(merged, "target"), settings(merged, "prm", profile=""))


async def test_models_that_were_not_merged_are_refused(merged: Path, tmp_path: Path) -> None:
    """Equal shapes are not enough."""
    other = write_language(tmp_path / "target")
    merge(Merge(other, merged / "prm", 0.9), tmp_path / "merged")
    with pytest.raises(MisconfiguredError, match=r"tensors of the layers of .* differ .*allowed: .* gsi merge wrote"):
        await load_two_heads(settings(tmp_path / "merged", "target"), settings(merged, "prm"))


async def test_one_number_format_serves_both(merged: Path) -> None:
    """Half precision for one of them would be half precision for both."""
    with pytest.raises(MisconfiguredError, match="GSI_PRM_DTYPE: bfloat16; allowed: float32"):
        await load_two_heads(settings(merged, "target"), settings(merged, "prm", dtype="bfloat16"))


async def test_an_outcome_model_shares_its_layers_as_well(tmp_path: Path, written: Written) -> None:
    """A classifier that reads the end of the assistant's answer has the target's tokens, and one closing token more."""
    path, _ = classifier(tmp_path / "reward")
    merge(Merge(write_language(tmp_path / "language"), path, 0.6), tmp_path / "merged")
    one, other = (settings(tmp_path / "merged", role, profile="") for role in ("target", "prm"))
    target, prm = await load_two_heads(one, other)
    apart = await REWARD_ENGINES.load("transformers", other)
    _, rewards = await ask_both((target, prm), written)
    assert rewards == pytest.approx(await rate_all(apart, written.texts), abs=TOLERANCE)
    assert not target._layers._rows  # each head has read each row
    for head in (target, prm, apart):
        head.close()


async def test_the_target_writes_as_an_engine_of_its_own_does(heads: Heads, merged: Path) -> None:
    """Equal seeds give equal candidates."""
    alone = await LANGUAGE_ENGINES.load("transformers", settings(merged, "target"))
    one, other = await propose_all(heads[0], 4, SAMPLING), await propose_all(alone, 4, SAMPLING)
    assert [candidate.token_ids for candidate in one] == [candidate.token_ids for candidate in other]
    alone.close()
