"""The exporter's settings, ``GSI_EXPORTER_…``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gsi.jobs.keys import QUEUE_PATTERN
from gsi.jobs.redis_settings import RedisSettings


class ExporterSettings(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_EXPORTER_", frozen=True, extra="ignore")

    queue: str = Field("default", pattern=QUEUE_PATTERN, description="queue that the exporter reads")
    look_seconds: float = Field(2, gt=0, le=60, description="pause between two looks at the queue")
    tenant_seconds: float = Field(
        15, gt=0, le=3600, description="pause between two counts of jobs by tenant, which read waiting payloads"
    )
