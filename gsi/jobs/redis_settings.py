"""The settings of a process that uses Redis."""

from pathlib import Path

from pydantic import Field

from gsi.jobs.connection import RedisAccess
from gsi.runtime.settings import ProcessSettings


class RedisSettings(ProcessSettings):
    """How a process reaches Redis, and who it is there."""

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="`redis://`, `rediss://` (TLS) or `unix://`, or the address of Sentinels or of a Cluster",
    )
    redis_password_file: Path | None = Field(None, description="file with the password, instead of one in the URL")
    redis_tls_ca: Path | None = Field(
        None, description="PEM file of the authority that signed Redis's certificate; unset: those of the system"
    )
    redis_tls_cert: Path | None = Field(None, description="PEM file of the certificate that the process shows Redis")
    redis_tls_key: Path | None = Field(None, description="PEM file of that certificate's private key")

    @property
    def redis_access(self) -> RedisAccess:
        """The files that the connection to Redis needs."""
        return RedisAccess(self.redis_password_file, self.redis_tls_ca, self.redis_tls_cert, self.redis_tls_key)
