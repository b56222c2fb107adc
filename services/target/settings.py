"""The settings of the target service, from the environment variables ``GSI_TARGET_…``."""

from pydantic_settings import SettingsConfigDict

from gsi.runtime.settings import LanguageServiceSettings


class TargetSettings(LanguageServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_TARGET_", frozen=True, extra="ignore")
