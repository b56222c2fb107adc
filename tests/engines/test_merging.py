"""A merged target and PRM: the same layers to the last bit, each with its own head, as in RSD's section B.3."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.merging import Merge, merge
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.errors import MisconfiguredError
from gsi.rpc.convert import ReceivedTokens
from tests.conftest import MODELS
from tests.engines.contract import MESSAGES, batches, law, propose_all, rate_all
from tests.engines.merged_checkpoints import OWN_TOKEN, WEIGHT, write_language, write_reward
from tests.engines.reward_checkpoints import CANDIDATES

MARK = "<extra_0>"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return write_language(folder / "target"), write_reward(folder / "prm")


@pytest.fixture(scope="module")
def merged(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "out"
    merge(Merge(*sources, WEIGHT), out)
    return out


def test_the_layers_are_the_linear_merge_and_the_same_in_both(sources: tuple[Path, Path], merged: Path) -> None:
    """Each tensor is 0.6 of the target's and 0.4 of the PRM's; the heads are those of the sources."""
    language, reward, target, prm = (
        load_file(folder / "model.safetensors") for folder in (*sources, merged / "target", merged / "prm")
    )
    own = AutoTokenizer.from_pretrained(sources[1]).get_vocab()[OWN_TOKEN]
    for name, tensor in language.items():
        assert torch.equal(target[name], prm[name]), name
        expected = WEIGHT * tensor + (1 - WEIGHT) * reward[name]
        if name == EMBEDDING:
            expected[own] = reward[name][own]  # a token that the target does not know
        assert torch.equal(target[name], expected), name
    assert torch.equal(target["lm_head.weight"], language[EMBEDDING])
    heads = {name for name in reward if name.startswith("score.")}
    assert len(heads) == 4
    assert all(torch.equal(prm[name], reward[name]) for name in heads)


def test_one_pass_over_the_layers_serves_both_heads(merged: Path) -> None:
    """Of tokens that both read, the logits and the PRM's outputs are those of two passes."""
    target = AutoModelForCausalLM.from_pretrained(merged / "target").float().eval()
    prm = Qwen2ForProcessRewardModel.from_pretrained(merged / "prm").float().eval()
    token_ids = torch.tensor([AutoTokenizer.from_pretrained(merged / "prm").encode(f"1 + 1 = 2.{MARK}")])
    with torch.inference_mode():
        hidden = target.model(input_ids=token_ids).last_hidden_state
        assert torch.allclose(target.lm_head(hidden), target(token_ids).logits, atol=1e-5)
        assert torch.allclose(prm.score(hidden), prm(token_ids).logits, atol=1e-5)


async def test_engines_serve_the_merged_models(merged: Path) -> None:
    """As they serve any other checkpoint; the head is a tensor of its own, which the embedding is not."""
    target = await LANGUAGE_ENGINES.load("transformers", EngineSettings(str(merged / "target"), num_threads=1))
    prm = await REWARD_ENGINES.load("transformers", EngineSettings(str(merged / "prm"), num_threads=1))
    written = await propose_all(target, 2, law(target), seed=1)
    prefix = target.render(MESSAGES)
    candidates = [ReceivedTokens(one.index, one.token_ids) for one in written]
    scored = [score async for batch in target.score(prefix, law(target), batches(candidates)) for score in batch]
    assert [score.value for score in scored] == pytest.approx([one.log_likelihood for one in written], abs=1e-3)
    assert all(0 < reward < 1 for reward in await rate_all(prm, CANDIDATES))
    target.close()
    prm.close()


def test_the_card_names_sources_weights_and_fingerprints(merged: Path) -> None:
    """Who finds the folder later knows what it was made from."""
    rows = [line.split(" | ") for line in (merged / "README.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| language model", "| reward model", "| merged target", "| merged prm"]
    assert [row[2] for row in rows] == ["0.6", "0.4", "", ""]
    assert all(len(row[3].removesuffix(" |")) == 64 for row in rows)
    assert len({row[3] for row in rows}) == 4


def test_models_that_cannot_be_merged_are_refused(sources: tuple[Path, Path], tmp_path: Path) -> None:
    """One sentence says what differs; nothing is written."""
    language, reward = sources
    refused = {
        Merge(MODELS / "target", reward, 0.5): "hidden_size: 128 in .*, 224 in",
        Merge(language, reward, 1.0): "weight is 1; allowed: a number above 0 and below 1",
        Merge(reward, language, 0.5): f"token '{OWN_TOKEN}' is .* and no token in",
        Merge(tmp_path, reward, 0.5): "has no config.json",
    }
    for sources_of, sentence in refused.items():
        with pytest.raises(MisconfiguredError, match=sentence):
            merge(sources_of, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_command_merges_and_says_where(sources: tuple[Path, Path], tmp_path: Path) -> None:
    """``gsi merge``, as a process of its own; a second time it refuses to write over the first."""
    command = [sys.executable, "-c", "from gsi.cli.start import main; main()", "merge", *map(str, sources)]
    command += [str(tmp_path / "out"), "--role", "draft"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(tmp_path / "out" / "draft"), str(tmp_path / "out" / "prm")], done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "exists; allowed: a folder that is not there yet" in again.stderr) == (1, True)
