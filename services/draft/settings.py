"""The settings of the draft service, from the environment variables ``GSI_DRAFT_…``."""

from pydantic_settings import SettingsConfigDict

from gsi.runtime.settings import LanguageServiceSettings


class DraftSettings(LanguageServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_DRAFT_", frozen=True, extra="ignore")
