"""A checkpoint as a model of Hugging Face ``transformers``, from safetensors alone."""

from typing import Any

import torch

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.weights import refuse_pickles
from gsi.errors import MisconfiguredError


def load_checkpoint(kind: Any, settings: EngineSettings) -> Any:
    """Load a checkpoint as a model of ``kind``, from safetensors alone.

    Raises MisconfiguredError if the checkpoint lacks weights, or has them as pickles. transformers fills missing
    weights with random numbers: a language model would serve as a PRM and give noise.
    """
    refuse_pickles(settings.model, settings.revision)
    model, report = kind.from_pretrained(
        settings.model,
        revision=settings.revision,
        dtype=getattr(torch, settings.dtype),
        use_safetensors=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise MisconfiguredError(f"{settings.model} is no {kind.__name__}: it lacks {', '.join(missing[:3])}")
    keep_soft_cap(model)
    return model


def keep_soft_cap(model: Any) -> None:
    """Choose the attention that applies a soft cap to its logits, if the model has one, as Gemma 2 does.

    Of the attentions for every device only the eager one applies it. The default one leaves it out without a word.
    """
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
