"""A model as its service describes it: enough to tell whether models fit together and whether a model has changed."""

from dataclasses import dataclass, replace

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

    def is_same_model(self, other: "ModelInfo") -> bool:
        """Return whether two replicas may answer the same calls. Engines may differ, as during a rolling update."""
        return replace(other, engine=self.engine, engine_version=self.engine_version) == self
