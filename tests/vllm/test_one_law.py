"""An engine starts only if every number that vLLM derives from the logits can follow one law."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.models.gemma2 import Gemma2ForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

from gsi.engines.base import EngineSettings
from gsi.engines.on_vllm.core import make_engine_config
from gsi.engines.on_vllm.inside import tempering
from gsi.engines.on_vllm.inside.tempering import Tempered, Tempering
from gsi.engines.on_vllm.language import LANGUAGE_MODEL_ARGS
from gsi.engines.on_vllm.one_law import find_slope, hide_padding, temper
from gsi.engines.on_vllm.suffix_scoring import gib_of_whole_logits
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS

pytestmark = pytest.mark.filterwarnings("ignore")

HIDDEN, VOCABULARY, CAP = 16, 32, 30.0


class Head(nn.Module):
    """A last layer as vLLM's logits layer asks for it."""

    tp_size = 1

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(HIDDEN, VOCABULARY, generator=torch.Generator().manual_seed(1))
        self.quant_method = SimpleNamespace(apply=lambda _layer, hidden, bias: hidden @ weight)


def cap_last(model: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Compute logits as vLLM's muse_glimmer and diffusion_gemma do, which cannot be imported without torchvision."""
    logits = model.logits_processor(model.lm_head, hidden_states)
    return CAP * torch.tanh(logits / CAP)


def make_worker(compute_logits: Any, soft_cap: float | None = None) -> Tempering:
    """Return a worker whose model has the method ``compute_logits`` of one of vLLM's classes."""
    model_class = type("Model", (nn.Module,), {"compute_logits": compute_logits})
    model: Any = model_class()
    with set_current_vllm_config(VllmConfig()):
        model.logits_processor = LogitsProcessor(VOCABULARY, soft_cap=soft_cap)
    model.lm_head, model.model = Head(), nn.Module()
    model.model.embed_tokens = model.lm_head  # shared, as in Gemma 2
    worker = Tempering()
    config = SimpleNamespace(get_hidden_size=lambda: HIDDEN, dtype=torch.float32)
    worker.model_runner = SimpleNamespace(get_model=lambda: model, model_config=config, device="cpu")
    return worker


@pytest.fixture(autouse=True)
def one_worker() -> Iterator[None]:
    with mock.patch.object(tempering, "get_pp_group", return_value=SimpleNamespace(is_last_rank=True)):
        yield


@pytest.mark.parametrize(
    ("compute_logits", "soft_cap", "result"),
    [
        (Qwen2ForCausalLM.compute_logits, None, Tempered.EXACTLY),
        (Gemma2ForCausalLM.compute_logits, CAP, Tempered.EXACTLY),  # the cap comes first, in vLLM's own layer
        (cap_last, None, Tempered.NOT_EXACTLY),
    ],
)
def test_a_cap_behind_the_division_is_found(compute_logits: Any, soft_cap: float | None, result: Tempered) -> None:
    """Some of vLLM's classes cap the logits themselves, after they are divided: their law would be another."""
    assert make_worker(compute_logits, soft_cap).temper(0.7) == result


def test_a_hidden_id_has_no_probability() -> None:
    """The others keep their logits."""
    worker = make_worker(Qwen2ForCausalLM.compute_logits)
    before = worker._probe()
    assert worker.hide_padding(VOCABULARY - 5) == 1
    after = worker._probe()
    assert before is not None
    assert after is not None
    assert torch.isneginf(after[:, -5:]).all()
    assert torch.equal(after[:, :-5], before[:, :-5])


class Core:
    """An engine whose log-probabilities of prompt and of written tokens each follow a temperature."""

    vocabulary_size = VOCABULARY
    config = SimpleNamespace(model_config=SimpleNamespace(max_model_len=512))

    def __init__(self, answer: Tempered | int, prompt: float = 0.7, written: float = 0.7) -> None:
        self._answer, self._after = answer, {"prompt": prompt, "written": written}
        self._temperatures = {"prompt": 1.0, "written": 1.0}

    async def ask_workers(self, method: str, *args: Any) -> list[Any]:
        self._temperatures = self._after
        return [self._answer]

    async def generate(self, token_ids: Any, params: Any, priority: int) -> Any:
        def rows(of: str) -> list[dict[int, Any]]:
            law = torch.log_softmax(torch.tensor([3.0, 1.0, -2.0]) / self._temperatures[of], dim=-1).tolist()
            return [{token: SimpleNamespace(logprob=value) for token, value in enumerate(law)}] * 2

        written = SimpleNamespace(logprobs=rows("written"))
        return SimpleNamespace(prompt_logprobs=[None, *rows("prompt")], outputs=[written])


async def test_an_engine_that_follows_the_temperature_starts() -> None:
    await temper(Core(Tempered.EXACTLY), 0.7)  # type: ignore[arg-type]  # what it asks of a core


@pytest.mark.parametrize(
    ("core", "sentence"),
    [
        (Core(Tempered.NOT_EXACTLY), "vLLM's class for this architecture changes its logits after they are scaled"),
        (Core(Tempered.NOT_AT_ALL), "vLLM's class for this architecture scales no logits"),
        (Core(Tempered.ELSEWHERE), "vLLM's class for this architecture scales no logits"),
        (Core(Tempered.EXACTLY, written=1.0), "of written tokens follow temperature 1.00 instead of 0.7"),
        (Core(Tempered.EXACTLY, prompt=1.0), "of prompt tokens follow temperature 1.00 instead of 0.7"),
    ],
)
async def test_an_engine_that_would_mix_laws_is_refused(core: Any, sentence: str) -> None:
    """The reason is said, and what is allowed. Logits of a recorded CUDA graph would show as the fourth case."""
    with pytest.raises(MisconfiguredError, match=rf"likelihood: .*{sentence}.* allowed: model"):
        await temper(core, 0.7)


def test_a_place_is_compared_with_itself() -> None:
    """Behind a token that differs, log-probabilities have another context, and are left out."""
    before = [{1: -0.1, 2: -2.4}, {3: -0.2, 4: -1.7}, {5: -0.3, 6: -1.4}]
    halved = [{1: -0.35, 2: -1.5}, {4: -0.4, 3: -1.15}, {7: -0.2, 6: -9.0}]
    assert find_slope(before[:1], halved[:1]) == pytest.approx(0.5)
    assert find_slope(before, halved) == find_slope(before[:2], halved[:2])
    assert find_slope([{1: -0.5, 2: -0.5}], [{1: -0.5, 2: -0.5}]) is None


async def test_ids_that_cannot_be_hidden_are_refused() -> None:
    """Only where there are some."""
    core: Any = Core(0)
    await hide_padding(core, VOCABULARY)
    with pytest.raises(MisconfiguredError, match="it may write ids up to 31, the tokenizer has tokens up to 26"):
        await hide_padding(core, 27)


def test_the_memory_for_logits_of_whole_prompts_is_said() -> None:
    """8,192 rows of 152,064 logits, twice, in single precision; the newer runner makes 1,024 rows at once."""

    def gib(*, is_v2: bool) -> float:
        config: Any = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_batched_tokens=8192),
            model_config=SimpleNamespace(max_model_len=32_768, get_vocab_size=lambda: 152_064),
            use_v2_model_runner=is_v2,
        )
        return gib_of_whole_logits(config)

    assert (gib(is_v2=False), gib(is_v2=True)) == pytest.approx((9.28, 1.16), abs=0.01)


def test_sharded_sampling_is_refused() -> None:
    """There each worker samples from logits that the logits layer has not seen whole."""
    settings = EngineSettings(str(MODELS / "target"), engine_args="--enable-batch-sharded-sampling")
    with pytest.raises(MisconfiguredError, match="engine_args: --enable-batch-sharded-sampling is not possible"):
        make_engine_config(settings, LANGUAGE_MODEL_ARGS)
