"""The settings of serving, all from the environment, read once. docs/settings.md is made from them."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from model_api.errors import SettingsError
from model_api.repository.environment import CALLER_KEY, DEFAULT_ROOT
from model_api.settings.address import Address
from model_api.settings.cache import CacheSettings
from model_api.settings.history import HistorySettings
from model_api.settings.jobs import IN_ANY_CASE, JobSettings, SettingsPath
from model_api.settings.keys import KeySettings

PREFIX = "MODEL_API_"


def _names(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise ValueError("must name at least one model, or be unset")
    return names


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
]
Precision = Annotated[Literal["auto", "bfloat16", "float32", "int8"], IN_ANY_CASE]
LogFormat = Annotated[Literal["auto", "json", "text"], IN_ANY_CASE]


class Settings(CacheSettings, JobSettings, KeySettings, HistorySettings):
    """All settings of one serving process. Immutable; shared by all threads. Made without `from_env`, it reads nothing.

    A field is read from MODEL_API_ and its name in capitals.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True
    )

    efs_root: SettingsPath = Field(
        default_factory=lambda: DEFAULT_ROOT,
        description="The shared file system with the models.",
        json_schema_extra={"shown": "efs beside model_api"},
    )
    status_dir: SettingsPath | None = Field(
        None,
        description="Where this instance writes what it serves. Unset: `<efs root>/status` where writable, else "
        "nowhere.",
    )
    local_store: SettingsPath = Field(
        default_factory=lambda: Path(".local_store").absolute(),
        description="This instance's verified copies of the weights. A local disk, never the shared file system.",
        json_schema_extra={"shown": "./.local_store"},
    )
    store_budget_bytes: int | None = Field(
        None,
        ge=1,
        le=2**50,
        description="Most bytes of all copies in the local store; the least recently used make room, never what is "
        "loaded or `previous`. Unset: what the disk has, less 256 MiB.",
    )
    memory_budget_bytes: int | None = Field(
        None,
        ge=1,
        le=2**50,
        description="Most memory of all loaded versions together. Unset: what the machine or the container has.",
    )
    models: Names | None = Field(
        None,
        description="Comma-separated names of the models to serve, and to wait for before `/readyz` says ready. "
        "Unset: all that are published.",
    )
    sim_model: str | None = Field(
        None,
        description="The model that `/sim` uses when the body names none. Unset: what authors chose "
        "(`scripts/promote NAME --sim`), else the model that answered so far, else the only embedding model.",
    )
    protocol_model: str | None = Field(
        None,
        description="The model of other people's interfaces whose addresses name none (`/invocations`, ...), where the "
        "header `X-Model` doesn't either. Unset: the only one that fits.",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the encoders. `auto`: bfloat16 where the processor has it, else float32. `int8`: "
        "faster and less exact (docs/precision.md); where it can't be, as `auto`. A model's manifest may ask for its "
        "own.",
    )
    lanes: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Model processes per version, and batches that run at a time over all models.",
        json_schema_extra={"shown": "number of cores"},
    )
    poll_s: float = Field(
        2.0,
        ge=0.05,
        le=3600,
        description="Seconds between looks at what is published.",
    )
    settle_s: float = Field(
        60.0,
        ge=0.1,
        le=86400,
        description="Seconds for which a plainly copied folder must stay unchanged before it is served.",
    )
    trusted_signers: SettingsPath | None = Field(
        None,
        description="File of who may sign models (ssh-keygen's ALLOWED SIGNERS): then only versions that one of them "
        "signed are served. Unset: whoever can write to the store publishes.",
    )
    pin_s: float = Field(
        300.0,
        ge=0,
        le=86400,
        description="Seconds for which a version that another replaced still answers callers of `name@version`, where "
        "memory allows; 0: it is unloaded at once.",
    )
    request_timeout_s: float = Field(
        30.0,
        ge=0.1,
        le=3600,
        description="Deadline of a request; past it the answer is 504.",
    )
    load_timeout_s: float = Field(
        600.0,
        ge=1,
        le=86400,
        description="Longest that a copied version may take to load, warm and check; one that takes longer is refused.",
    )
    recheck_s: float = Field(
        3600.0,
        ge=1,
        le=7 * 86400,
        description="Seconds after which a loaded version is compared with its digest again, in idle time; a damaged "
        "one is loaded anew.",
    )
    max_body_bytes: int = Field(
        10 * 2**20,
        ge=1024,
        le=2**30,
        description="Largest request body; a larger one is 413.",
    )
    max_inputs: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Most inputs (or texts) in one request; more are 422.",
    )
    max_text_chars: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Longest single text in characters, whether or not it is truncated later; a longer one is 422.",
    )
    max_queue_entries: int = Field(
        128,
        ge=1,
        le=10_000,
        description="Requests waiting or running at a time; one more is answered 503 at once.",
    )
    max_connections: int = Field(
        2048,
        ge=16,
        le=100_000,
        description="Open connections at a time, as far as `ulimit -n` allows; one caller may hold three quarters of"
        " what is left (an IPv6 network of /64 is one caller). Not counted per caller behind proxies.",
    )
    max_bodies_bytes: int = Field(
        128 * 2**20,
        ge=2**20,
        le=2**40,
        description="Bytes of all request bodies in memory at a time; a body for which there is no room is 503.",
    )
    max_unsent_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        le=2**40,
        description="Bytes of all answers that their callers haven't read yet; past it, connections of slow readers are"
        " cut.",
    )
    max_batch_tokens: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Tokens of one micro-batch; a single longer input still runs, alone.",
    )
    drain_delay_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds between turning unready on SIGTERM and stopping to accept, for the balancer to notice.",
    )
    proxy_hops: int = Field(
        0,
        ge=0,
        le=10,
        description="Trusted proxies in front; the client's address is taken that many hops back in X-Forwarded-For.",
    )
    instance: str = Field(
        default_factory=socket.gethostname,
        description="This instance's name in status and logs.",
        json_schema_extra={"shown": "host name"},
    )
    log_level: LogLevel = Field(
        "INFO",
        description="Least severe level that is logged.",
    )
    log_format: LogFormat = Field(
        "auto",
        validation_alias="LOG_FORMAT",
        description="`json`: an object per line; `text`: lines for a person; `auto`: text on a terminal, else json.",
    )
    bind: Address = Field(
        "127.0.0.1",
        description="Address that the API listens on; behind nginx the loopback one.",
    )
    port: int = Field(
        8000,
        ge=1,
        le=65535,
        validation_alias="PORT",
        description="Port that `scripts/serve` listens on.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given; `from_env` gives it the environment."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read every setting. Raises SettingsError that lists all bad values; an empty value counts as unset."""
        given = os.environ if environ is None else environ
        source = EnvSettingsSource(cls)
        source.env_vars = {name.lower(): value.strip() for name, value in given.items() if value.strip()}
        try:
            return cls(**source())
        except ValidationError as error:
            raise SettingsError("; ".join(_told(problem) for problem in error.errors())) from None


def _told(problem: Any) -> str:
    field = str(problem["loc"][0])
    known = Settings.model_fields.get(field)
    name = field if known is None else env_name(field)
    what = problem["msg"].removeprefix("Value error, ")
    value = repr(problem["input"]) if known is None or known.repr else "..."  # it is a secret, or may hold one
    return f"{name}={value}: {what[:1].lower()}{what[1:]}"


def env_name(field: str) -> str:
    """The environment variable that a field is read from."""
    return str(Settings.model_fields[field].validation_alias or PREFIX + field.upper())


def unknown_settings(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names that look like settings and aren't: a typing mistake, or a later release's. Worth a warning, no more."""
    known = {CALLER_KEY} | {env_name(field) for field in Settings.model_fields}
    names = os.environ if environ is None else environ
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def settings_table() -> str:
    """The rows of docs/settings.md, in Markdown."""
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    subjects: list[type[BaseSettings]] = [
        CacheSettings,
        JobSettings,
        KeySettings,
        HistorySettings,
    ]  # which come after what is Settings' own
    inherited = [name for subject in subjects for name in subject.model_fields]
    for name in [*(name for name in Settings.model_fields if name not in inherited), *inherited]:
        field = Settings.model_fields[name]
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = extra.get("shown", "unset" if field.default is None else field.default)
        rows.append(f"| `{env_name(name)}` | `{default}` | {field.description} |")
    return "\n".join(rows) + "\n"
