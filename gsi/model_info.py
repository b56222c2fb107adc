"""What a service says of its model: enough to tell whether models fit together, and whether one was replaced."""

from dataclasses import dataclass, replace

from gsi.algorithm.params import Likelihood


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its service describes it; the fields are those of ``gsi.v1.ModelInfo``."""

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
    temperature: float | None = None  # the only one above 0 that likelihood "sampling" can have; None: any
    num_parameters: int | None = None  # all of the model's, tied ones counted once; None: unknown
    has_bounded_rewards: bool = True  # of a PRM: rewards lie in [0, 1]; False: any real number
    num_speculative_tokens: int = 0  # written ahead of the model by the engine itself; 0: none

    def is_same_model(self, other: "ModelInfo") -> bool:
        """Whether either may answer a call: engines may differ, as while a new version of one is rolled out."""
        return replace(other, engine=self.engine, engine_version=self.engine_version) == self
