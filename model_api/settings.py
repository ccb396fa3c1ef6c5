"""Settings.from_env() is the only reader of the environment. Stdlib only, Python 3.9: the authors' commands use it too.

Every field carries its documentation; the README's table is checked against it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from model_api.errors import SettingsError
from model_api.repository import environment

_SECRET = ("MODEL_API_OPERATOR_KEY", "MODEL_API_CACHE")  # never quoted: a URL may hold a password
CACHE_URL_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")


def _text(value: str) -> str:
    return value.strip()


def _path(value: str) -> Path:
    return environment.absolute_path(value)


def _optional_path(value: str) -> Path | None:
    return _path(value)


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise ValueError("must name at least one model, or be unset")
    return names


def _number(cast: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    def parse(value: str) -> float:
        number = cast(value)
        if not low <= number <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return parse


def _operator_key(value: str) -> str:
    if len(value) < 16 or not value.isascii() or any(c.isspace() for c in value):
        raise ValueError("must have at least 16 ASCII characters and no space")
    return value


def _cache(value: str) -> str:
    if value not in ("off", "memory") and not value.startswith(CACHE_URL_SCHEMES):
        raise ValueError(f"must be off, memory, or a URL that begins with {', '.join(CACHE_URL_SCHEMES)}")
    return value


def _setting(env: str, default: Any, parse: Callable[[str], Any], doc: str, *, shown: str | None = None) -> Any:
    """A field read from `env`; `shown` is how the README prints a default that depends on the machine."""
    metadata = {"env": env, "parse": parse, "doc": doc, "shown": str(default) if shown is None else shown}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings of one serving process. Immutable; shared by all threads."""

    efs_root: Path = _setting(
        environment.EFS_ROOT, lambda: _path("./efs"), _path, "The shared file system with the models.", shown="./efs"
    )
    status_dir: Path | None = _setting(
        environment.STATUS_DIR,
        None,
        _optional_path,
        "Where this instance writes what it serves. Unset: `<efs root>/status` where writable, else nowhere.",
        shown="unset",
    )
    local_store: Path = _setting(
        "MODEL_API_LOCAL_STORE",
        lambda: _path("./.local_store"),
        _path,
        "This instance's verified copies of the weights. A local disk, never the shared file system.",
        shown="./.local_store",
    )
    store_budget_bytes: int | None = _setting(
        "MODEL_API_STORE_BUDGET_BYTES",
        None,
        _number(int, 1, 2**50),
        "Most bytes of all copies in the local store; the least recently used make room, never what is loaded or"
        " `previous`. Unset: what the disk has, less 256 MiB.",
        shown="unset",
    )
    memory_budget_bytes: int | None = _setting(
        "MODEL_API_MEMORY_BUDGET_BYTES",
        None,
        _number(int, 1, 2**50),
        "Most memory of all loaded versions together. Unset: what the machine or the container has.",
        shown="unset",
    )
    models: tuple[str, ...] | None = _setting(
        "MODEL_API_MODELS",
        None,
        _names,
        "Comma-separated names of the models to serve, and to wait for before `/readyz` says ready."
        " Unset: all that are published.",
        shown="unset",
    )
    sim_model: str | None = _setting(
        "MODEL_API_SIM_MODEL",
        None,
        _text,
        "The model that `/sim` uses when the body names none. Unset: the only embedding model.",
        shown="unset",
    )
    precision: str = _setting(
        "MODEL_API_PRECISION",
        "auto",
        _one_of("auto", "bfloat16", "float32"),
        "Arithmetic of the encoders. `auto`: bfloat16 where the processor has it, else float32."
        " A model's manifest may ask for its own.",
    )
    lanes: int | None = _setting(
        "MODEL_API_LANES",
        None,
        _number(int, 1, 256),
        "Model processes per version, and batches that run at a time over all models.",
        shown="number of cores",
    )
    poll_s: float = _setting(
        "MODEL_API_POLL_S", 2.0, _number(float, 0.05, 3600), "Seconds between looks at what is published."
    )
    settle_s: float = _setting(
        "MODEL_API_SETTLE_S",
        60.0,
        _number(float, 0.1, 86400),
        "Seconds for which a plainly copied folder must stay unchanged before it is served.",
    )
    request_timeout_s: float = _setting(
        "MODEL_API_REQUEST_TIMEOUT_S",
        30.0,
        _number(float, 0.1, 3600),
        "Deadline of a request; past it the answer is 504.",
    )
    max_body_bytes: int = _setting(
        "MODEL_API_MAX_BODY_BYTES", 10 * 2**20, _number(int, 1024, 2**30), "Largest request body; a larger one is 413."
    )
    max_inputs: int = _setting(
        "MODEL_API_MAX_INPUTS", 1000, _number(int, 1, 100_000), "Most inputs (or texts) in one request; more are 422."
    )
    max_text_chars: int = _setting(
        "MODEL_API_MAX_TEXT_CHARS",
        100_000,
        _number(int, 1, 10_000_000),
        "Longest single text in characters, whether or not it is truncated later; a longer one is 422.",
    )
    max_queue_entries: int = _setting(
        "MODEL_API_MAX_QUEUE_ENTRIES",
        128,
        _number(int, 1, 10_000),
        "Requests waiting or running at a time; one more is answered 503 at once.",
    )
    max_batch_tokens: int = _setting(
        "MODEL_API_MAX_BATCH_TOKENS",
        512,
        _number(int, 1, 1_000_000),
        "Tokens of one micro-batch; a single longer input still runs, alone.",
    )
    cache: str = _setting(
        "MODEL_API_CACHE",
        "memory",
        _cache,
        "Where answers are cached: `memory`, `off`, or the URL of a Redis or Valkey that all instances share.",
    )
    cache_bytes: int = _setting(
        "MODEL_API_CACHE_BYTES",
        64 * 2**20,
        _number(int, 0, 2**40),
        "Bound of the memory cache; the least recently used answers go first. A Redis bounds itself (`maxmemory`).",
    )
    cache_ttl_s: float = _setting(
        "MODEL_API_CACHE_TTL_S",
        3600.0,
        _number(float, 0.001, 30 * 86400),
        "Seconds for which an answer is kept.",
    )
    cache_timeout_s: float = _setting(
        "MODEL_API_CACHE_TIMEOUT_S",
        0.05,
        _number(float, 0.001, 10),
        "What a request waits for a remote cache at most. After a failure nobody waits for five seconds.",
    )
    operator_key: str | None = _setting(
        "MODEL_API_OPERATOR_KEY",
        None,
        _operator_key,
        "What operators send as `Authorization: Bearer KEY`, to `DELETE /cache`. Unset: nobody may.",
        shown="unset",
    )
    drain_delay_s: float = _setting(
        "MODEL_API_DRAIN_DELAY_S",
        0.0,
        _number(float, 0, 600),
        "Seconds between turning unready on SIGTERM and stopping to accept, for the balancer to notice.",
    )
    proxy_hops: int = _setting(
        "MODEL_API_PROXY_HOPS",
        0,
        _number(int, 0, 10),
        "Trusted proxies in front; the client's address is taken that many hops back in X-Forwarded-For.",
    )
    instance: str = _setting(
        "MODEL_API_INSTANCE", socket.gethostname, _text, "This instance's name in status and logs.", shown="host name"
    )
    log_level: str = _setting(
        "MODEL_API_LOG_LEVEL",
        "INFO",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "Least severe level that is logged.",
    )
    bind: str = _setting(
        "MODEL_API_BIND", "127.0.0.1", _text, "Address that the API listens on; behind nginx the loopback one."
    )
    port: int = _setting("PORT", 8000, _number(int, 1, 65535), "Port that `scripts/serve` listens on.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read every setting. Raises SettingsError that lists all bad values; an empty value counts as unset."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        bad: list[str] = []
        known = {spec.metadata["env"]: spec for spec in fields(cls)}
        for env, spec in known.items():
            raw = environ.get(env, "").strip()
            if not raw:
                continue
            try:
                values[spec.name] = spec.metadata["parse"](raw)
            except ValueError as error:
                shown = "..." if env in _SECRET else repr(raw)
                bad.append(f"{env}={shown}: {error}")
        if bad:
            raise SettingsError("; ".join(bad))
        return cls(**values)


def unknown_settings(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names that look like settings and aren't: a typing mistake, or a later release's. Worth a warning, no more."""
    known = {spec.metadata["env"] for spec in fields(Settings)}
    names = os.environ if environ is None else environ
    return sorted(name for name in names if name.startswith("MODEL_API_") and name not in known)
