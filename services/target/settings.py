"""What the target service can be told: ``GSI_TARGET_…``."""

from pydantic_settings import SettingsConfigDict

from gsi.runtime.settings import LanguageServiceSettings


class TargetSettings(LanguageServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_TARGET_", frozen=True, extra="ignore")
