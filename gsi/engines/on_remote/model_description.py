"""What a service says of a model that another server has."""

from gsi.algorithm.params import Likelihood
from gsi.engines.base import STEP_DELIMITER, EngineSettings
from gsi.engines.hugging_face.configuration import count_by_configuration, read_eos_token_ids
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_remote.model_server import ServerDescription
from gsi.model_info import ModelInfo


def describe_model(
    settings: EngineSettings,
    server: ServerDescription,
    tokenizer: Tokenizer,
    likelihoods: tuple[Likelihood, ...] = (),
    reward_architecture: str | None = None,
) -> ModelInfo:
    """Describe the server's model, with the server in the engine's version. Its dtype and its files are unknown."""
    return ModelInfo(
        model=settings.model,
        revision=settings.revision or "remote",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.size,
        max_length=server.max_length,
        eos_token_ids=read_eos_token_ids(settings, tokenizer),
        step_delimiter_token_ids=tokenizer.encode(STEP_DELIMITER),
        likelihoods=likelihoods,
        engine="remote",
        engine_version=f"{server.kind} {server.version}, {server.model}",
        temperature=settings.temperature if Likelihood.SAMPLING in likelihoods else None,
        num_parameters=server.num_parameters or count_by_configuration(settings, reward_architecture),
    )
