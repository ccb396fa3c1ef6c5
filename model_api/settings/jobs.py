"""The settings of jobs and uploads."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from model_api.repository import environment

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())


def _sources(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    for one in found:
        if not one.startswith(("/", "https://", "http://")):
            raise ValueError("must be absolute folders, or URLs of http or https")
    return found


def key_of_16(value: str) -> str:
    """For keys that people choose."""
    if len(value) < 16 or not value.isascii() or any(c.isspace() for c in value):
        raise ValueError("must have at least 16 ASCII characters and no space")
    return value


IN_ANY_CASE = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
"""For choices whose words are small letters."""
SettingsPath = Annotated[Path, AfterValidator(lambda path: environment.absolute_path(str(path)))]
Sources = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_sources)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
Key = Annotated[str, AfterValidator(key_of_16)]


class JobSettings(BaseSettings):
    """Part of Settings."""

    jobs_dir: SettingsPath | None = Field(
        None,
        description="Where jobs, their results and uploads are kept. A local disk. Unset: beside the local store, as "
        "`<local store>.jobs`.",
    )
    role: Annotated[Literal["web", "worker"], IN_ANY_CASE] = Field(
        "web",
        description="`worker`: an instance of a worker environment, to which Beanstalk posts the queue's messages.",
    )
    jobs_table: str | None = Field(
        None, description="DynamoDB table of a fleet's jobs; with it MODEL_API_JOBS_BUCKET. Unset: jobs are embedded."
    )
    jobs_bucket: str | None = Field(None, description="S3 bucket of a fleet's results and uploads.")
    jobs_queue_url: str | None = Field(
        None,
        description="SQS queue that wakes the workers of a fleet. Unset: the instances run the jobs themselves.",
    )
    jobs_at_once: int = Field(2, ge=0, le=64, description="Jobs that run at a time; 0: this process runs none.")
    job_timeout_s: float = Field(
        900.0, ge=1, le=86400, description="Longest that one call of a model may take within a job."
    )
    job_ttl_s: float = Field(
        86400.0,
        ge=1,
        le=30 * 86400,
        description="Seconds for which a job is kept once it is over, or while it waits, unless it says `ttl_s` "
        "itself.",
    )
    job_attempts: int = Field(3, ge=1, le=20, description="Attempts at a job before it counts as failed.")
    job_lease_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Seconds without a sign of life after which a job is taken from its worker.",
    )
    max_waiting_jobs: int = Field(
        10_000, ge=1, le=10_000_000, description="Jobs that may wait; one more is answered 503."
    )
    max_upload_bytes: int = Field(
        200 * 2**20, ge=1, le=2**40, description="Largest upload; a larger one is refused when it is asked for."
    )
    video_model: str | None = Field(
        None,
        description="The model that judges videos whose job names none, as those of `GET /uploads`. Unset: the only "
        "one for videos.",
    )
    pipelines: SettingsPath | None = Field(
        None, description="A TOML file of pipelines (docs/jobs.md#daily). Unset: there are none."
    )
    sources: Sources = Field(
        (),
        description="Comma-separated folders and beginnings of URLs that pipelines may read from; nothing else may be.",
        json_schema_extra={"shown": "unset"},
    )
    notify_networks: Networks = Field(
        (),
        description="Comma-separated networks (`10.1.0.0/16`) that `notify`, and pipelines' sources, may be in "
        "though they are private.",
        json_schema_extra={"shown": "unset"},
    )
    notify_secret: Key | None = Field(
        None,
        repr=False,
        description="Key of the signature of what `notify` is told. Unset: the one in `<jobs dir>/notify-secret`.",
    )
