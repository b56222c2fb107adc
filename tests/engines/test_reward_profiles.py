"""Profiles of reward models: the ready ones, one's own in a file, and what is said of a faulty one."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, LlamaConfig

from gsi.engines.base import EngineSettings, Reading
from gsi.engines.hugging_face.reward_families import RewardFamily, choose_profile, read_reward
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.reward_checkpoint import LabelTokens
from gsi.engines.registry import REWARD_ENGINES
from gsi.engines.reward_profile import load_profile, ready_profiles
from gsi.errors import MisconfiguredError
from tests.conftest import MODELS
from tests.engines.contract import rate_all
from tests.engines.own_profile import write_own_profile
from tests.engines.reward_checkpoints import CANDIDATES

PRM = str(MODELS / "prm")


def test_each_ready_profile_says_what_it_reads_and_who_says_so() -> None:
    """And those that one architecture is recognised by differ in the number of outputs."""
    for profile in ready_profiles():
        assert profile.description
        assert profile.source
        same = [p for p in ready_profiles() if set(p.architectures) & set(profile.architectures)]
        assert len({p.output.num_outputs for p in same}) == len(same)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'form = "template"',
            'form = "templates"',
            r"conversation\.form: Input should be 'template', 'plain'",
        ),
        ("separator", "seperator", r"steps\.seperator: Extra inputs are not permitted"),
        ('mark_token = "<extra_0>"\n', "", r"steps: separator: needs a mark or a mark_token"),
        (
            "[steps]\n",
            "[steps]\nmark_kept = false\n",
            r"steps: mark_kept: false needs a mark.*no after_mark or separator",
        ),
        (
            'reward = "softmax"',
            'reward = "raw"',
            r"output: reward: raw is not allowed with read labels",
        ),
        (
            'reward = "softmax"',
            'reward = "softmax"\ngood_labels = [2]',
            r"good_labels: allowed: some, not all, of 0",
        ),
        ('"labels"', '"tokens"', r"good_tokens, bad_tokens: needed with read tokens"),
        ('separator = "\\n"\n', "", r"output\.combine: needs steps\.separator"),
        ('source = "this test"\n', "", r"source: Field required"),
        ("[steps]", "[steps", r"cannot be read as TOML"),
    ],
)
def test_a_faulty_file_is_refused_with_the_field_at_fault(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A profile is written by hand, and a field that is not read would be a silent mistake."""
    with pytest.raises(MisconfiguredError, match=rf"profile: .*own\.toml.*{message}"):
        load_profile(write_own_profile(tmp_path, old, new))


def test_an_unknown_name_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    """A missing file is named as such."""
    with pytest.raises(MisconfiguredError, match=r"there is no 'qwen'; allowed: .*math-shepherd.*qwen2\.5-math-prm"):
        load_profile("qwen")
    with pytest.raises(MisconfiguredError, match=r"missing\.toml cannot be read"):
        load_profile(str(tmp_path / "missing.toml"))


@pytest.mark.parametrize(
    ("profile", "architecture", "num_labels", "message"),
    [
        ("math-shepherd", "Qwen2ForProcessRewardModel", 2, r"math-shepherd reads tokens; .* allowed: \*ForCausalLM"),
        ("outcome", "LlamaForCausalLM", 2, r"outcome reads value; .* allowed: a model with a head"),
        ("token-classifier", "Qwen2ForTokenClassification", 3, r"reads 2 outputs; some/model has 3 labels"),
    ],
)
def test_a_profile_that_does_not_fit_the_checkpoint_is_refused(
    profile: str, architecture: str, num_labels: int, message: str
) -> None:
    """Otherwise rewards would be numbers of another kind."""
    with pytest.raises(MisconfiguredError, match=message):
        choose_profile(architecture, num_labels, "some/model", name=profile)


def test_the_reading_of_the_authors_is_that_of_the_named_profile() -> None:
    """``GSI_PRM_READING=authors`` beside a profile without such a reading would have no effect, so it is refused."""
    chosen = choose_profile("Qwen2ForPrmModel", 2, "some/model", Reading.AUTHORS, "skywork-o1")
    assert chosen is not None
    assert chosen.name == "skywork-o1-authors"
    with pytest.raises(MisconfiguredError, match="reading: authors is not allowed for some/model"):
        choose_profile("LlamaForCausalLM", 2, "some/model", Reading.AUTHORS, "rlhflow")


async def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    """Each line has a mark and the mean counts; the mean of one line is what the ready profile gives."""
    own = await REWARD_ENGINES.load(
        "transformers", EngineSettings(PRM, num_threads=1, profile=write_own_profile(tmp_path))
    )
    ready = await REWARD_ENGINES.load("transformers", EngineSettings(PRM, num_threads=1))
    try:
        assert await rate_all(own, CANDIDATES, steps=()) == pytest.approx(await rate_all(ready, CANDIDATES, steps=()))
    finally:
        own.close()
        ready.close()


@pytest.mark.parametrize(("combine", "expected"), [("mean", 0.5), ("minimum", 0.2), ("last", 0.3)])
def test_the_rewards_of_a_candidates_marks_are_combined(tmp_path: Path, combine: str, expected: float) -> None:
    """A candidate of three lines has three marks, of which the last one is its last token."""
    profile = load_profile(write_own_profile(tmp_path, '"mean"', f'"{combine}"'))
    family = RewardFamily(profile, Tokenizer(PRM, None), PRM)
    candidate = family.candidate("1\n2\n3\n\n")
    places = family.places(candidate)
    assert len(places) == (1 if combine == "last" else 3)
    assert places[-1] == len(candidate) - 1
    assert family.combine([1.0, 0.2, 0.3]) == pytest.approx(expected)
    assert 0 < read_reward(family, [[0.0, 1.0]] * len(places)) < 1


def test_the_page_lists_the_ready_profiles_and_its_example_is_one(tmp_path: Path) -> None:
    """So that nobody copies a faulty example."""
    page = (Path(__file__).parents[2] / "docs" / "reward-models.md").read_text()
    for profile in ready_profiles():
        assert f"`{profile.name}`" in page
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(example)
    assert load_profile(str(path)).output.good_tokens == (" yes",)


SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(num_key_value_heads=2, **SIZES),
        Gemma2Config(num_key_value_heads=2, head_dim=16, final_logit_softcapping=2.0, **SIZES),
        CohereConfig(num_key_value_heads=2, logit_scale=0.25, **SIZES),
    ],
    ids=["plain", "soft-capped", "scaled"],
)
def test_the_answers_of_a_language_model_are_its_own_logits(config: Any) -> None:
    """Whatever it does with its logits behind its last matrix."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    torch.nn.init.normal_(model.get_output_embeddings().weight)
    token_ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        expected = model(token_ids).logits[..., [7, 5]]
        assert torch.allclose(LabelTokens(model, (7, 5))(token_ids).logits, expected, atol=1e-6)
