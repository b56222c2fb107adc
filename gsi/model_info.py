"""A model as its service describes it: enough to tell whether models fit together and whether a model has changed."""

from dataclasses import dataclass, replace
from typing import Any

from gsi.algorithm.params import Likelihood


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The description of one model, with the fields of ``gsi.v1.ModelInfo``."""

    model: str
    revision: str
    tokenizer_fingerprint: str
    vocabulary_size: int
    max_length: int
    eos_token_ids: tuple[int, ...]
    step_delimiter_token_ids: tuple[int, ...]
    likelihoods: tuple[Likelihood, ...]
    engine: str
    engine_version: str
    temperature: float | None = None  # the only temperature above 0 with likelihood "sampling"; None: any
    num_parameters: int | None = None  # of the whole model, shared parameters counted once; None: unknown
    has_bounded_rewards: bool = True  # of a PRM: True: rewards lie in [0, 1]; False: any real number
    num_speculative_tokens: int = 0  # drafted at a time inside the engine (speculative decoding); 0: none
    dtype: str = ""  # of the weights as the engine computes with them; "": unknown
    checkpoint_fingerprint: str = ""  # see ``gsi/engines/hugging_face/fingerprint.py``; "": unknown
    reading: str = ""  # of a PRM: "authors", or the profile that was named; "": the profile of its architecture
    profile: str = ""  # of a PRM: the name of the profile that it is read by; "": unknown
    can_judge: bool = False  # of a language model: whether its service answers Judge

    def is_same_model(self, other: "ModelInfo") -> bool:
        """Return whether two replicas may answer the same calls. Engines may differ, as during a rolling update.

        A service of an older release does not know its fingerprint, which then says nothing.
        """
        told: dict[str, Any] = {"engine": self.engine, "engine_version": self.engine_version, "dtype": self.dtype}
        told["profile"] = self.profile  # ``reading`` tells readings apart; an older release does not know its profile
        told["can_judge"] = self.can_judge  # an older release cannot, with the same model
        if not (self.checkpoint_fingerprint and other.checkpoint_fingerprint):
            told["checkpoint_fingerprint"] = self.checkpoint_fingerprint
        return replace(other, **told) == self
