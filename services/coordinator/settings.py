"""The coordinator's settings, ``GSI_COORDINATOR_…``. A job's parameters are not settings: they are in the job."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gsi.jobs.keys import QUEUE_PATTERN
from gsi.jobs.redis_settings import RedisSettings
from gsi.runtime.settings import Addresses


class CoordinatorSettings(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="GSI_COORDINATOR_", frozen=True, extra="ignore")

    queue: str = Field("default", pattern=QUEUE_PATTERN, description="queue whose jobs the coordinator takes")
    draft: Addresses = Field(
        description="host:port of the draft service; each address of the name is a replica. Or a list with commas"
    )
    target: Addresses = Field(
        description="host:port of the target service; each address of the name is a replica. Or a list with commas"
    )
    prm: Addresses = Field(
        description="host:port of the PRM service; each address of the name is a replica. Or a list with commas"
    )
    max_jobs: int = Field(16, ge=1, le=10_000, description="jobs in flight at once")
    lease_seconds: float = Field(
        30,
        ge=1,
        le=600,
        description="time that a job waits for a lost coordinator; the same for all coordinators of a queue",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        le=100,
        description="attempts of a job before it is dead; an attempt does not count if its coordinator was lost after "
        "a kept step",
    )
    max_jobs_per_tenant: int = Field(
        0, ge=0, le=10_000, description="jobs of one tenant in flight, over all coordinators; 0: no limit"
    )
    retry_seconds: float = Field(
        1,
        gt=0,
        le=3600,
        description="pause before a job's second attempt; it doubles for each further one, up to 300 s, with jitter",
    )
    result_ttl_seconds: float = Field(
        604_800,
        gt=0,
        le=1e9,
        description="lifetime of a finished job (a week); a job's own `result_ttl_seconds` wins for its result",
    )
    dead_ttl_seconds: float = Field(
        2_592_000, gt=0, le=1e9, description="time in which a dead job can be read and retried (30 days)"
    )
    newer_job_seconds: float = Field(
        300,
        ge=0,
        le=86_400,
        description="time that a job waits for a coordinator of a newer release if this one cannot read it; then it is "
        "FAILED",
    )
    draft_timeout_seconds: float = Field(120, gt=0, le=3600, description="deadline of a call to the draft")
    target_timeout_seconds: float = Field(120, gt=0, le=3600, description="deadline of a call to the target")
    prm_timeout_seconds: float = Field(120, gt=0, le=3600, description="deadline of a call to the PRM")

    adopt_queue: bool = Field(
        False,
        description="whether to take the jobs of a queue that was served with other models; with `false` the "
        "coordinator is not ready until `gsi queue models --forget`",
    )

    affinity: bool = Field(
        True,
        description="whether a job's calls go to the replica that has the job's prefix in its cache, with at most 1.25 "
        "times the mean of the jobs on a replica; with `false` calls take turns",
    )

    lookahead: bool = Field(
        False,
        description="whether the draft writes the next step behind the leading candidate while the last scores come "
        "in, as long as it serves less than half of its `GSI_DRAFT_MAX_CONCURRENT_RPCS`",
    )

    router: Path | None = Field(
        None,
        description="file of the router of method `arbitrage`, as `gsi router train` wrote it; without it: that of the "
        "shipped models",
    )

    @model_validator(mode="after")
    def _calls_safely(self) -> Self:
        self._refuse_plaintext("draft", "target", "prm")
        return self
