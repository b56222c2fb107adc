"""What the draft service can be told: ``GSI_DRAFT_…``."""

from pydantic_settings import SettingsConfigDict

from gsi.runtime.settings import LanguageServiceSettings


class DraftSettings(LanguageServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_DRAFT_", frozen=True, extra="ignore")
