"""Jobs that share forward passes and kept prefixes get the answers that they get alone."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, aclosing, closing
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from gsi.algorithm.candidates import Candidate, Message, Prompt, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Likelihood, Params, SamplingParams
from gsi.algorithm.ports import Ports
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.on_transformers.passes import Draw, Part, Passes
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.proposal import PATIENCE, SamplingBatch
from gsi.engines.on_transformers.sampling import draw_all
from gsi.engines.on_transformers.shared_rows import RowStore
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import InvalidRequestError
from gsi.local.demo import held_out_problems
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import TOLERANCE, score_all

NUM_JOBS = 8
ALONE: dict[str, Any] = {"batching": False, "prefix_cache_bytes": 0}

pytestmark = pytest.mark.timeout(300)  # a thread that has ended answers nobody; a machine may be busy


def load_ports(stack: ExitStack, **settings: Any) -> Ports:
    """Load the shipped family."""

    async def load() -> Ports:
        of = {
            role: EngineSettings(str(MODELS / folder), num_threads=1, **settings)
            for role, folder in (("draft", "draft"), ("target", "shallow-target"), ("prm", "prm"))
        }
        draft = await LANGUAGE_ENGINES.load("transformers", of["draft"])
        target = await LANGUAGE_ENGINES.load("transformers", of["target"])
        return Ports(draft, target, await REWARD_ENGINES.load("transformers", of["prm"]))

    ports = asyncio.run(load())
    engines: tuple[Any, ...] = (ports.draft, ports.target, ports.prm)
    for engine in engines:
        stack.enter_context(closing(engine))
    return ports


@pytest.fixture(scope="module")
def together() -> Iterator[Any]:
    with ExitStack() as stack:
        yield load_ports(stack)


@pytest.fixture(scope="module")
def alone() -> Iterator[Any]:
    with ExitStack() as stack:
        yield load_ports(stack, **ALONE)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of parts of each pass from now on."""
    made: list[int] = []
    run = Passes.run

    def run_and_note(passes: Passes, parts: Sequence[Part]) -> None:
        made.append(len(parts))
        run(passes, parts)

    monkeypatch.setattr(Passes, "run", run_and_note)
    return made


async def answer(ports: Any, prompt: str, seed: int) -> Trajectory:
    messages = (Message("user", prompt),)
    begun = Trajectory(Prompt(messages, ports.draft.render(messages)))

    async def keep(_: object) -> None: ...

    trajectory, _ = await generate(begun, Params(n=4), ports, seed, keep=keep, max_length=512)
    return trajectory


async def test_whole_jobs_get_the_same_tokens_together_on_warm_prefixes_as_alone_on_cold_ones(
    together: Any, alone: Any, passes: list[int]
) -> None:
    """In float32, with equal seeds: once with cold prefixes, and once more with all of them warm."""
    problems = [problem["prompt"] for problem in held_out_problems(NUM_JOBS, skip=40)]
    expected = [await answer(alone, prompt, seed) for seed, prompt in enumerate(problems)]
    assert set(passes) == {1}
    for _ in range(2):
        answers = await asyncio.gather(*(answer(together, prompt, seed) for seed, prompt in enumerate(problems)))
        assert [found.token_ids for found in answers] == [found.token_ids for found in expected]
        for found, wanted in zip(answers, expected, strict=True):
            rewards = [step.reward for step in wanted.steps]
            assert [step.reward for step in found.steps] == pytest.approx(rewards, abs=1e-4)
    assert max(passes) > 2


async def propose(engine: LanguageEngine, prompt: str, n: int, sampling: SamplingParams, seed: int) -> list[Candidate]:
    prefix = engine.render((Message("user", prompt),))
    found = [candidate async for batch in engine.propose(prefix, n, sampling, seed) for candidate in batch]
    return sorted(found, key=lambda candidate: candidate.index)


async def test_proposals_of_different_laws_and_lengths_share_passes(
    together: Any, alone: Any, passes: list[int]
) -> None:
    """A row ends when it ends; each has its own temperature, nucleus, likelihood and stream of random numbers."""
    laws = [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=2.0, max_step_tokens=5),
        SamplingParams(temperature=1.5, top_p=0.7),
        SamplingParams(temperature=1.0, likelihood=Likelihood.MODEL),
    ]
    asked = [("7 " * (5 + 9 * i), 1 + 2 * (i % 4), laws[i % 4], i) for i in range(12)]
    expected = [await propose(alone.target, *request) for request in asked]
    found = await asyncio.gather(*(propose(together.target, *request) for request in asked))
    for ours, theirs in zip(found, expected, strict=True):
        assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
        assert [c.finish_reason for c in ours] == [c.finish_reason for c in theirs]
        likelihoods = [c.log_likelihood for c in theirs]
        # Hot laws have sums of hundreds of nats, of which float32 keeps seven digits.
        assert [c.log_likelihood for c in ours] == pytest.approx(likelihoods, rel=1e-6, abs=TOLERANCE)
    assert max(passes) > 1


async def test_a_request_that_is_refused_or_cancelled_leaves_the_others_alone(together: Any, alone: Any) -> None:
    """The wrong candidate's call fails, the closed proposal's rows are removed, the others are answered as alone."""
    # Short, because passes of other shapes round differently, and one token in some 100,000 is another one for it.
    engine, sampling = together.target, SamplingParams(temperature=1.0, max_step_tokens=40)
    expected = [await propose(alone.target, "7 + 8", 3, sampling, seed) for seed in range(4)]

    async def close_early() -> None:
        prefix = engine.render((Message("user", "a long one"),))
        async with aclosing(engine.propose(prefix, 16, SamplingParams(temperature=5.0), 9)) as stream:
            await anext(stream)

    async def score_a_stranger() -> None:
        with pytest.raises(InvalidRequestError, match="token id 99999"):
            await score_all(engine, [ReceivedTokens(0, (99_999,))], sampling)

    async def go_away() -> None:
        task = asyncio.create_task(propose(engine, "another", 8, SamplingParams(temperature=5.0), 3))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    proposals = (propose(engine, "7 + 8", 3, sampling, seed) for seed in range(4))
    found, *_ = await asyncio.gather(asyncio.gather(*proposals), close_early(), score_a_stranger(), go_away())
    tokens = [[c.token_ids for c in candidates] for candidates in expected]
    assert [[c.token_ids for c in candidates] for candidates in found] == tokens


class BrittleLlama(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types
    """Breaks at token 13, after its first layers have read the others."""

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        outputs = super().forward(input_ids, **options)
        if (input_ids == 13).any():
            raise RuntimeError("token 13")
        return outputs


def tiny(kind: Any, config: Any, **more: Any) -> Any:
    """Return a random model whose queries share keys."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return kind(config(vocab_size=50, max_position_embeddings=512, **sizes, **heads, **more)).eval()


async def test_a_request_that_breaks_the_model_fails_alone() -> None:
    """The pass that it was part of is made again for each of the others, whose caches are as before it."""
    plain = tiny(BrittleLlama, LlamaConfig)
    model = PrefixModel(plain, 256, EngineSettings("", num_threads=1))
    with closing(model):
        reads = [model.run(model.read(range(20 + i, 30 + i))) for i in range(4)]
        prefixes, (error,) = await asyncio.gather(
            asyncio.gather(*reads), asyncio.gather(model.run(model.read([7, 13])), return_exceptions=True)
        )
        assert isinstance(error, RuntimeError)
        rows = [[1, 2], [3]]
        outputs = await asyncio.gather(*(model.run(model.continue_rows(p.cache(2), rows)) for p in prefixes))
    for i, found in enumerate(outputs):
        with torch.inference_mode():
            expected = plain(torch.tensor([[*range(20 + i, 30 + i), 1, 2]])).logits[0, -2:]
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


class MixingLlama(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types
    """Adds up what its tokens say, outside of attention."""

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        outputs = super().forward(input_ids, **options)
        outputs.logits = outputs.logits.cumsum(dim=1)
        return outputs


@pytest.mark.parametrize(("kind", "can_share"), [(LlamaForCausalLM, True), (MixingLlama, False)])
def test_a_model_whose_tokens_meet_outside_of_attention_has_passes_of_one_request(kind: Any, can_share: bool) -> None:
    """It is tried when the model is loaded."""
    assert Passes(tiny(kind, LlamaConfig), "cpu").can_share == can_share


async def test_a_closed_model_cancels_what_it_has_not_done_and_refuses_more() -> None:
    """Nobody waits for a thread that has ended."""
    model = PrefixModel(tiny(LlamaForCausalLM, LlamaConfig), 256, EngineSettings("", num_threads=1))
    with closing(SamplingBatch(model, 4, SamplingParams(max_step_tokens=250), 1, (), lambda _: "x")) as batch:
        writing = asyncio.create_task(model.run(batch.begin([1])))
        await asyncio.sleep(0.01)
        model.close()
        with pytest.raises(asyncio.CancelledError):
            await writing
    with pytest.raises(RuntimeError, match="closed"):
        await model.run(model.read([1]))


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(tiny(LlamaForCausalLM, LlamaConfig), id="queries share keys"),
        pytest.param(tiny(MistralForCausalLM, MistralConfig, sliding_window=6), id="sliding window"),
    ],
)
async def test_likelihoods_of_shared_passes_are_those_of_plain_passes(plain: Any) -> None:
    """Proposals of different lengths grow side by side, also with keys that heads share and within a sliding window."""
    model = PrefixModel(plain, 256, EngineSettings("", num_threads=1))
    sampling = SamplingParams(temperature=1.0, max_step_tokens=12)
    prefixes = [list(range(1, 4 + 5 * i)) for i in range(5)]

    async def write(prefix: Sequence[int], seed: int) -> list[Candidate]:
        with closing(SamplingBatch(model, 3, sampling, seed, {49, 48}, lambda _: "x")) as batch:
            found = await model.run(batch.begin(prefix))
            while not batch.is_finished:
                found += await model.run(batch.go_on())
        return found

    with closing(model):
        written = await asyncio.gather(*(write(prefix, seed) for seed, prefix in enumerate(prefixes)))
    assert sum(map(len, written)) == 15
    for prefix, candidates in zip(prefixes, written, strict=True):
        for candidate in candidates:
            with torch.inference_mode():
                logits = plain(torch.tensor([prefix + list(candidate.token_ids)])).logits[0, len(prefix) - 1 : -1]
            law = torch.log_softmax(logits.double(), dim=-1)
            expected = float(law[range(len(candidate.token_ids)), list(candidate.token_ids)].sum())
            assert candidate.log_likelihood == pytest.approx(expected, abs=TOLERANCE)


async def test_the_memory_of_rows_is_bounded(together: Any, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposals that find no room in the shared rows have a cache of their own, and the same tokens."""
    monkeypatch.setattr("gsi.engines.on_transformers.shared_rows.MAX_BYTES", 1000)
    sampling = SamplingParams(temperature=1.0)
    expected = [await propose(alone.draft, "no room", 3, sampling, seed) for seed in range(3)]
    found = await asyncio.gather(*(propose(together.draft, "no room", 3, sampling, seed) for seed in range(3)))
    assert [[c.token_ids for c in group] for group in found] == [[c.token_ids for c in group] for group in expected]


def test_parts_are_drawn_alone_if_one_cannot_be_drawn() -> None:
    """Logits that are no numbers have no token; the others of the same law have theirs."""
    numbers = torch.zeros(2, 1, 5)
    parts = [Part(DynamicCache(), [[1]] * 2, draw=Draw(SamplingParams(), [0.1, 0.9]), outputs=numbers) for _ in "ab"]
    parts[0].outputs = numbers * torch.nan
    draw_all(parts)
    assert isinstance(parts[0].error, IndexError)
    assert [token for token, _ in parts[1].drawn] == [0, 4]


async def test_candidates_that_finish_closely_go_out_together() -> None:
    """Each message costs target and PRM a pass: a candidate waits a few tokens for others, not for all."""
    config = LlamaConfig(vocab_size=50, max_position_embeddings=512, hidden_size=32, num_attention_heads=2)
    torch.manual_seed(0)
    model = PrefixModel(LlamaForCausalLM(config).eval(), 256, EngineSettings("", num_threads=1))
    sampling = SamplingParams(temperature=5.0, max_step_tokens=100)
    batches = []
    with closing(model), closing(SamplingBatch(model, 40, sampling, 1, range(46, 50), lambda _: "x")) as batch:
        batches.append(await model.run(batch.begin([1, 2])))
        while not batch.is_finished:
            batches.append(await model.run(batch.go_on()))
    lengths = [[len(candidate.token_ids) for candidate in found] for found in batches]
    assert len(batches) > 2
    assert all(max(found) - min(found) <= PATIENCE for found in lengths)
    assert all(max(before) < min(after) for before, after in pairwise(lengths))
    assert any(max(found) > min(found) for found in lengths)


@torch.inference_mode()
def test_rows_stay_those_of_their_owners_whoever_joins_and_leaves() -> None:
    """A walk at random: each row of a proposal is its prefix's keys, wherever it has moved to."""
    walk, store = random.Random(0), RowStore()
    model = PrefixModel(tiny(LlamaForCausalLM, LlamaConfig), 256, EngineSettings("", num_threads=1))
    with closing(model):
        prefixes = [asyncio.run(model.run(model.read([i] * (5 + 17 * i)))) for i in range(1, 8)]
    owned: list[tuple[Any, Any]] = []
    for _ in range(300):
        prefix = walk.choice(prefixes)
        rows = store.join(prefix, walk.randint(1, 5))
        assert rows is not None
        owned.append((rows, prefix))
        shrunk, _ = walk.choice(owned)
        store.select(shrunk, walk.sample(range(len(shrunk.places)), walk.randint(0, len(shrunk.places))))
        gone, _ = walk.choice(owned)
        gone.is_free = True
        store.sweep()
        owned = [(rows, prefix) for rows, prefix in owned if rows.places and not rows.is_free]
        places = [place for rows, _ in owned for place in rows.places]
        assert sorted(places) == list(range(len(places)))
        for rows, prefix in owned:
            for place in rows.places:
                assert torch.equal(store.keys_of(place, layer=1)[:, : prefix.length], prefix.layers[1][0][0])
