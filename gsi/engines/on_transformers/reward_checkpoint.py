"""The Hugging Face class of a reward model's architecture, made untrained or loaded from a checkpoint."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.reward_families import LANGUAGE_MODEL, QWEN_PROCESS_REWARD, SKYWORK_PROCESS_REWARD
from gsi.engines.on_transformers.checkpoint import load_checkpoint
from gsi.engines.on_transformers.last_layer import changes_logits
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForPrmModel, Qwen2ForProcessRewardModel, RewardOutput
from gsi.errors import MisconfiguredError

_CLASSES: dict[str, Any] = {
    QWEN_PROCESS_REWARD: Qwen2ForProcessRewardModel,
    SKYWORK_PROCESS_REWARD: Qwen2ForPrmModel,
}
_AUTO_CLASSES: dict[str, Any] = {  # by the end of the architecture's name
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    LANGUAGE_MODEL: AutoModelForCausalLM,
}


def make_reward_model(architecture: str, config: Any) -> Any:
    """Make an untrained model of this architecture. Raises ValueError if there is no class for it."""
    if architecture in _CLASSES:
        return _CLASSES[architecture](config)
    return _find_auto_class(architecture).from_config(config, trust_remote_code=False)


def load_reward_model(architecture: str, settings: EngineSettings, label_token_ids: Sequence[int] = ()) -> Any:
    """Load a checkpoint as a model with outputs [batch, length, outputs], at every token.

    It has ``pretrained``, the checkpoint's own class, and ``read_head``, which makes outputs of last hidden states.
    The outputs of a language model are its logits of ``label_token_ids``. Raises MisconfiguredError if the checkpoint
    lacks weights, or if its head cannot be put on every token.
    """
    if architecture in _CLASSES:
        return load_checkpoint(_CLASSES[architecture], settings)
    try:
        model = load_checkpoint(_find_auto_class(architecture), settings)
    except ValueError as error:
        raise MisconfiguredError(f"{settings.model} is a {architecture}, which transformers cannot load") from error
    if architecture.endswith(LANGUAGE_MODEL):
        return LabelTokens(model, label_token_ids)
    if not hasattr(model, "score"):  # causal classifiers call their head so, others do not
        raise MisconfiguredError(
            f"{settings.model} is a {architecture} without a head named score; allowed: a causal model's classifier"
        )
    return EveryTokenClassifier(model)


def _find_auto_class(architecture: str) -> Any:
    found = next((kind for end, kind in _AUTO_CLASSES.items() if architecture.endswith(end)), None)
    if found is None:
        raise ValueError(f"no class for {architecture}")
    return found


class EveryTokenClassifier(nn.Module):
    """A causal classifier of sequences or tokens, with its head on every token.

    A sequence classifier's own ``forward`` finds the last token of a row by the pad token, which a checkpoint may lack,
    or use in its text. A token classifier's own ``forward`` does not return the cache.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.config = classifier.config
        self.classifier = classifier

    @property
    def pretrained(self) -> Any:
        return self.classifier

    def forward(self, input_ids: torch.Tensor, **options: Any) -> RewardOutput:
        """Return outputs [batch, length, labels] for token ids [batch, length] behind the tokens in the cache.

        ``options`` are those of the classifier's backbone.
        """
        hidden = self.classifier.base_model(input_ids=input_ids, **options)
        return RewardOutput(logits=self.read_head(hidden.last_hidden_state), past_key_values=hidden.past_key_values)

    def read_head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return outputs [..., labels] of hidden states [..., hidden]."""
        outputs: torch.Tensor = self.classifier.score(hidden)
        return outputs


class LabelTokens(nn.Module):
    """A language model of which only the logits of a few tokens are read: those that it answers with."""

    def __init__(self, model: Any, token_ids: Sequence[int]) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        self._token_ids = list(token_ids)
        self._is_plain = not changes_logits(model)

    @property
    def pretrained(self) -> Any:
        return self.model

    def forward(self, input_ids: torch.Tensor, **options: Any) -> RewardOutput:
        """Return logits [batch, length, tokens] for token ids [batch, length] behind the tokens in the cache."""
        if not self._is_plain:
            output = self.model(input_ids=input_ids, **options)
            return RewardOutput(logits=output.logits[..., self._token_ids], past_key_values=output.past_key_values)
        hidden = self.model.base_model(input_ids=input_ids, **options)
        return RewardOutput(logits=self.read_head(hidden.last_hidden_state), past_key_values=hidden.past_key_values)

    def read_head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits [..., tokens] of hidden states [..., hidden], as the last layer makes them."""
        head = self.model.get_output_embeddings()  # the logits of a whole vocabulary would be a gigabyte
        bias = None if head.bias is None else head.bias[self._token_ids]
        return nn.functional.linear(hidden, head.weight[self._token_ids], bias)
