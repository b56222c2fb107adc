"""The settings of the prm service, from the environment variables ``GSI_PRM_…``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gsi.engines.base import Reading
from gsi.runtime.settings import ServiceSettings


class PrmSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_PRM_", frozen=True, extra="ignore")

    profile: str = Field(
        "",
        description="how the PRM is read: the name of a ready profile, or the path of a TOML file "
        "(`docs/reward-models.md`); empty: the profile that recognises the checkpoint",
    )
    reading: Reading = Field(
        Reading.MODEL_CARD,
        description="how steps are read: `model-card`, or `authors` as the code of GSI's authors (the mark behind a "
        "candidate is doubled) or of Skywork's (each line is a step)",
    )
