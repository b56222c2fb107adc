"""A config.json or a name becomes parameters, bytes and FLOPs a token."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from gsi.errors import InvalidRequestError
from gsi.planning.architecture import NAMED, Role, find_architecture
from gsi.runtime.installation import SHIPPED_MODELS

SMALL = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "tie_word_embeddings": True,
    "model_type": "llama",
}


def write_config(folder: Path, **changed: object) -> str:
    (folder / "config.json").write_text(json.dumps({**SMALL, **changed}))
    return str(folder)


@pytest.mark.parametrize("role", ["draft", "target", "prm"])
def test_the_parameters_of_a_checkpoint_are_those_of_its_weights(role: Role) -> None:
    """Counted from config.json as from the file of weights."""
    planned = find_architecture(role, str(SHIPPED_MODELS / role)).num_parameters
    with safe_open(SHIPPED_MODELS / role / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    sizes = []
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        sizes.append(size)
    assert planned == pytest.approx(sum(sizes), rel=0.001)  # the reward head's bias


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen2.5-Math-1.5B", 1.54),
        ("Qwen2.5-Math-7B", 7.62),
        ("Qwen2.5-Math-72B", 72.7),
        ("Qwen2.5-0.5B", 0.49),
        ("Qwen2.5-3B", 3.09),
        ("Qwen2.5-14B", 14.8),
        ("Qwen2.5-32B", 32.8),
        ("Llama-3.2-1B", 1.24),
        ("Llama-3.2-3B", 3.21),
        ("Llama-3.1-8B", 8.03),
        ("Llama-3.1-70B", 70.6),
        ("Qwen3-0.6B", 0.596),
        ("Qwen3-1.7B", 1.72),
        ("Qwen3-4B", 4.02),
        ("Qwen3-8B", 8.19),
        ("Qwen3-14B", 14.77),
        ("Qwen3-32B", 32.76),
    ],
)
def test_a_named_model_has_the_parameters_of_its_card(name: str, billions: float) -> None:
    """The sizes in the list are those that the models' cards state."""
    assert NAMED[name].num_parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_small_model_counted_by_hand(tmp_path: Path) -> None:
    """Every figure that the planner reads off an architecture."""
    model = find_architecture("draft", write_config(tmp_path))
    layer = 4 * 4 + 4 * 4 + 2 * 4 * 2 + 3 * 4 * 8 + 2 * 4  # queries, output, key and value, MLP, two norms
    assert model.num_block_parameters == 2 * layer + 4
    assert model.num_parameters == 2 * layer + 4 + 40
    assert model.num_kv_values == 2 * 2 * 1 * 2
    assert model.count_flops(0) == 2 * (2 * layer + 4)
    assert model.count_flops(10) - model.count_flops(0) == 4 * 2 * 2 * 2 * 10
    assert model.flops_per_output == 2 * 40


def test_an_untied_head_is_stored_and_an_embedding_is_not_read(tmp_path: Path) -> None:
    """Tied or not, a pass reads the layers and one matrix of the vocabulary's size."""
    tied = find_architecture("draft", write_config(tmp_path))
    untied = find_architecture("draft", write_config(tmp_path, tie_word_embeddings=False))
    assert untied.num_parameters - tied.num_parameters == 40
    assert untied.num_values_read == tied.num_values_read


@pytest.mark.parametrize(
    "given", ["Qwen/Qwen2.5-Math-7B-Instruct", "qwen2.5-math-7b", "Qwen2.5-Math-7B"], ids=["hub", "lower", "short"]
)
def test_a_name_may_have_an_organisation_and_instruct(given: str) -> None:
    """A model is found by what its checkpoint is called."""
    assert find_architecture("target", given) == NAMED["Qwen2.5-Math-7B"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3 .*allowed: 1 to 2"),
        ({"num_experts": 8}, "has num_experts; allowed: dense models"),
    ],
)
def test_a_config_that_cannot_be_planned_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    """The error names the option and the field."""
    with pytest.raises(InvalidRequestError, match=f"--target: .*{said}"):
        find_architecture("target", write_config(tmp_path, **changed))


def test_a_name_that_is_not_known_is_refused_with_those_that_are() -> None:
    """The error says what is allowed."""
    with pytest.raises(InvalidRequestError, match=r"--draft: gpt is not allowed; allowed: .*Qwen2\.5-Math-1\.5B"):
        find_architecture("draft", "gpt")
