"""The settings of the result cache."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

CACHE_URL_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")


def _secret(value: str) -> str:
    if len(value) < 32 or not value.isascii() or any(c.isspace() for c in value):
        raise ValueError("must have at least 32 ASCII characters and no space")
    return value


def _cache_store(value: str) -> str:
    if value.lower() in ("off", "memory"):
        return value.lower()
    if not value.startswith(CACHE_URL_SCHEMES):
        raise ValueError(f"must be off, memory, or a URL that begins with {', '.join(CACHE_URL_SCHEMES)}")
    return value


CacheSecret = Annotated[str, AfterValidator(_secret)]
CacheStore = Annotated[str, AfterValidator(_cache_store)]


class CacheSettings(BaseSettings):
    """Part of Settings."""

    cache: CacheStore = Field(
        "memory",
        repr=False,  # a URL may hold a password
        description="Where answers are cached: `memory`, `off`, or the URL of a Redis or Valkey that all instances "
        "share.",
    )
    cache_secret: CacheSecret | None = Field(
        None,
        repr=False,
        description="What all instances seal the answers in a shared cache with, so that who else writes there can "
        "forge none; `scripts/create-efs` makes one. Without it a shared cache isn't used.",
    )
    cache_trusted: bool = Field(
        False,
        description="`true`: everybody who can write to the shared cache is trusted, and it is used without a secret.",
    )
    cache_bytes: int = Field(
        64 * 2**20,
        ge=0,
        le=2**40,
        description="Bound of the memory cache; the least recently used answers go first. A Redis bounds itself "
        "(`maxmemory`).",
    )
    cache_ttl_s: float = Field(
        3600.0,
        ge=0.001,
        le=30 * 86400,
        description="Seconds for which an answer is kept.",
    )
    cache_timeout_s: float = Field(
        0.05,
        ge=0.001,
        le=10,
        description="What a request waits for a remote cache at most. After a failure nobody waits for five seconds.",
    )
