"""What a service says of the model that vLLM has loaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gsi.algorithm.params import Likelihood
from gsi.engines.base import STEP_DELIMITER, EngineSettings
from gsi.engines.hugging_face.fingerprint import fingerprint_checkpoint
from gsi.engines.hugging_face.parameter_count import count_parameters_without_weights
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_vllm.core import VllmCore
from gsi.model_info import ModelInfo


def describe_model(
    settings: EngineSettings, core: VllmCore, tokenizer: Tokenizer, make: Callable[[Any], Any]
) -> ModelInfo:
    """Describe the engine's model; ``make`` makes a model without weights from a Hugging Face configuration."""
    model_config = core.config.model_config
    hf_config = model_config.hf_config
    eos = (model_config.try_get_generation_config().get("eos_token_id"), getattr(hf_config, "eos_token_id", None))
    is_language_model = model_config.runner_type == "generate"
    is_tempered = is_language_model and settings.likelihood is Likelihood.SAMPLING
    speculative = core.config.speculative_config
    return ModelInfo(
        model=settings.model,
        revision=settings.revision or getattr(hf_config, "_commit_hash", None) or "local",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.size,
        max_length=model_config.max_model_len - int(is_language_model),  # vLLM keeps room for a token to write
        eos_token_ids=tokenizer.choose_end(*eos),
        step_delimiter_token_ids=tokenizer.encode(STEP_DELIMITER),
        likelihoods=(settings.likelihood,) if is_language_model else (),
        can_judge=is_language_model,
        engine="vllm",
        engine_version=core.version,
        temperature=settings.temperature if is_tempered else None,
        num_parameters=count_parameters_without_weights(partial(make, hf_config)),
        num_speculative_tokens=speculative.num_speculative_tokens if speculative is not None else 0,
        dtype=str(model_config.dtype).removeprefix("torch."),
        checkpoint_fingerprint=fingerprint_checkpoint(settings.model, settings.revision),
    )
