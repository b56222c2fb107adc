"""The number format of the last layer, as vLLM gets it."""

import pytest
import torch

from gsi.engines.base import SAME_AS_MODEL, EngineSettings
from gsi.engines.on_vllm.core import make_engine_config
from gsi.engines.on_vllm.language import make_language_model_args
from tests.conftest import MODELS

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("head_dtype", "engine_args", "expected"),
    [
        (SAME_AS_MODEL, "", torch.bfloat16),
        ("float32", "", torch.float32),
        ("float32", """--hf-overrides '{"max_position_embeddings": 256}'""", torch.float32),
        (SAME_AS_MODEL, """--hf-overrides '{"head_dtype": "float32"}'""", torch.float32),
    ],
)
def test_the_last_layer_has_the_format_that_is_asked_for(
    head_dtype: str, engine_args: str, expected: torch.dtype
) -> None:
    """It stands beside an operator's own overrides of the model's configuration."""
    settings = EngineSettings(
        str(MODELS / "target"), dtype="bfloat16", head_dtype=head_dtype, num_threads=1, engine_args=engine_args
    )
    config = make_engine_config(settings, make_language_model_args(settings))
    assert (config.model_config.dtype, config.model_config.head_dtype) == (torch.bfloat16, expected)
    assert config.model_config.max_model_len == (256 if "position" in engine_args else 512)
