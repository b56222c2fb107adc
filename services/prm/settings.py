"""The settings of the prm service, from the environment variables ``GSI_PRM_…``."""

from pydantic_settings import SettingsConfigDict

from gsi.runtime.settings import ServiceSettings


class PrmSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_PRM_", frozen=True, extra="ignore")
