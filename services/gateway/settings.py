"""The gateway's settings, ``GSI_GATEWAY_…``. What a request chooses is not a setting."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gsi.jobs.keys import QUEUE_PATTERN
from gsi.jobs.redis_settings import RedisSettings
from gsi.runtime.settings import Address
from gsi.runtime.tls import is_loopback


class GatewaySettings(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_GATEWAY_", frozen=True, extra="ignore")

    listen: Address = Field("127.0.0.1:8000", description="host:port of HTTP; port 0 takes a free one")
    queue: str = Field(
        "default", pattern=QUEUE_PATTERN, description="queue of the presets that name none, and of the built-in ones"
    )
    presets: Path | None = Field(
        None, description="TOML file of the models that clients may name; unset: the built-in ones"
    )
    keys: bool = Field(
        False, description="whether a request needs a key (`gsi keys create`); without, `listen` must be loopback"
    )
    cors_origins: str | None = Field(
        None,
        pattern=r"^[^\s,]+(, ?[^\s,]+)*$",
        description="origins whose web pages may call, separated by commas; unset: none",
    )
    page: bool = Field(True, description="whether `/` serves the web page")
    files: str | None = Field(
        None,
        description="folder, or URL that fsspec knows (`s3://…`), of files and of what batches write; the same for all "
        "gateways; unset: neither files nor batches",
    )
    evaluations: Path | None = Field(
        None, description="folder with folders that `gsi eval` wrote, for the web page; unset: none are shown"
    )
    max_file_bytes: int = Field(200 * 2**20, ge=1024, le=2**40, description="longest file")
    max_body_bytes: int = Field(5 * 2**20, ge=1024, le=2**30, description="longest body of a request, but for files")
    max_header_bytes: int = Field(32_768, ge=1024, le=2**20, description="longest line and headers of a request")
    max_connections: int = Field(4096, ge=1, le=1_000_000, description="connections at once; more get 503")
    heartbeat_seconds: float = Field(
        15, gt=0, le=600, description="pause after which a stream without a new step gets a comment"
    )
    grace_seconds: float = Field(30, ge=0, le=3600, description="time for open requests to finish after SIGTERM")
    result_ttl_seconds: float = Field(
        86_400, ge=1, le=31_536_000, description="lifetime of a finished job in Redis, unless a request chooses another"
    )

    @property
    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_origins``."""
        return [origin.strip() for origin in self.cors_origins.split(",")] if self.cors_origins else []

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        """Without an authority a client shows no certificate: its key says who it is."""
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_ca and not self.tls_cert):
            chain, key, authority = map(self.variable, ("tls_cert", "tls_key", "tls_ca"))
            raise ValueError(f"{chain}, {key}: set both, or none; {authority} only with them")
        return self

    @model_validator(mode="after")
    def _needs_keys_beyond_loopback(self) -> Self:
        if not self.keys and not is_loopback(self.listen):
            raise ValueError(
                f"{self.variable('listen')}: {self.listen} is not loopback, and anybody there could ask; "
                f"set {self.variable('keys')}=true"
            )
        return self
