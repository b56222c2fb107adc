"""The last layer of a language model, which makes the logits: how wide it is, and how exactly it computes."""

import copy
from typing import Any

import torch

from gsi.errors import MisconfiguredError

# Of a config: what some language models do with their logits behind the last layer.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def changes_logits(model: Any) -> bool:
    """Return whether a language model changes its logits behind the last layer."""
    text_config = model.config.get_text_config()
    return any(getattr(text_config, name, None) for name in LOGIT_CHANGES)


def hide_padding(model: Any, num_ids: int) -> int:
    """Give every token id of ``num_ids`` or above the logit -inf; return how many ids are left.

    A last layer is often wider than the vocabulary. What is sampled beyond it has no text, and no meaning for a model
    with another width.
    """
    width: int = model.config.get_text_config().vocab_size
    if width <= num_ids:
        return width

    def hide(_model: Any, _inputs: Any, outputs: Any) -> None:
        outputs.logits[..., num_ids:] = -torch.inf

    model.register_forward_hook(hide)
    return num_ids


def widen(model: Any, dtype: torch.dtype) -> None:
    """Let the last layer compute its logits in ``dtype``, from hidden states in the model's own number format.

    The layer gets weights of its own where it shares them with the embedding, which stays as it is.
    Raises MisconfiguredError if the model has no such layer.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise MisconfiguredError("head_dtype: transformers knows no last layer of this architecture; allowed: model")
    head = copy.deepcopy(head).to(dtype)
    head.register_forward_pre_hook(lambda _layer, inputs: (inputs[0].to(dtype), *inputs[1:]))
    model.set_output_embeddings(head)
