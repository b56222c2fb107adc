"""The Hugging Face class of a reward model's architecture, made untrained or loaded from a checkpoint."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from gsi.engines.base import EngineSettings
from gsi.engines.hugging_face.reward_families import CLASSIFIER, QWEN_PROCESS_REWARD, SKYWORK_PROCESS_REWARD
from gsi.engines.on_transformers.checkpoint import load_checkpoint
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForPrmModel, Qwen2ForProcessRewardModel, RewardOutput
from gsi.errors import MisconfiguredError

_CLASSES: dict[str, Any] = {
    QWEN_PROCESS_REWARD: Qwen2ForProcessRewardModel,
    SKYWORK_PROCESS_REWARD: Qwen2ForPrmModel,
}


def make_reward_model(architecture: str, config: Any) -> Any:
    """Make an untrained model of this architecture. Raises ValueError if there is no class for it."""
    if architecture in _CLASSES:
        return _CLASSES[architecture](config)
    if architecture.endswith(CLASSIFIER):
        return AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    raise ValueError(f"no class for {architecture}")


def load_reward_model(architecture: str, settings: EngineSettings) -> Any:
    """Load a checkpoint as a model with outputs [batch, length, outputs], at every token.

    Raises MisconfiguredError if the checkpoint lacks weights, or if its head cannot be put on every token.
    """
    if architecture in _CLASSES:
        return load_checkpoint(_CLASSES[architecture], settings)
    classifier = load_checkpoint(AutoModelForSequenceClassification, settings)
    if not hasattr(classifier, "score"):  # causal classifiers call their head so, others do not
        raise MisconfiguredError(
            f"{settings.model} is a {architecture} without a head named score; allowed: a causal model's classifier"
        )
    return EveryTokenClassifier(classifier)


class EveryTokenClassifier(nn.Module):
    """A causal sequence classifier with its head on every token.

    The classifier's own ``forward`` finds the last token of a row by the pad token, which a checkpoint may lack, or use
    in its text.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.config = classifier.config
        self.classifier = classifier

    def forward(self, input_ids: torch.Tensor, **options: Any) -> RewardOutput:
        """Return outputs [batch, length, labels] for token ids [batch, length] behind the tokens in the cache.

        ``options`` are those of the classifier's backbone.
        """
        hidden = self.classifier.base_model(input_ids=input_ids, **options)
        return RewardOutput(
            logits=self.classifier.score(hidden.last_hidden_state), past_key_values=hidden.past_key_values
        )
