"""The exporter's settings, ``GSI_EXPORTER_…``."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gsi.jobs.connection import RedisAccess
from gsi.jobs.keys import QUEUE_PATTERN
from gsi.runtime.settings import ProcessSettings


class ExporterSettings(ProcessSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_EXPORTER_", frozen=True, extra="ignore")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="`redis://`, `rediss://` (TLS) or `unix://`, or the address of Sentinels or of a Cluster",
    )
    redis_password_file: Path | None = Field(None, description="file with the password, instead of one in the URL")
    redis_tls_ca: Path | None = Field(
        None, description="PEM file of the authority that signed Redis's certificate; unset: those of the system"
    )
    redis_tls_cert: Path | None = Field(None, description="PEM file of the certificate that the exporter shows Redis")
    redis_tls_key: Path | None = Field(None, description="PEM file of that certificate's private key")
    queue: str = Field("default", pattern=QUEUE_PATTERN, description="queue that the exporter reads")
    look_seconds: float = Field(2, gt=0, le=60, description="pause between two looks at the queue")

    @property
    def redis_access(self) -> RedisAccess:
        """The files that the connection to Redis needs."""
        return RedisAccess(self.redis_password_file, self.redis_tls_ca, self.redis_tls_cert, self.redis_tls_key)
