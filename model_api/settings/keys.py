"""The settings of who may call."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from model_api.repository.keys import ID_PATTERN, SCOPES, Key
from model_api.settings.jobs import IN_ANY_CASE
from model_api.settings.jobs import Key as Secret


def _groups(value: Any) -> Any:
    return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _first_key(value: str) -> str:
    key_id, _, sha256 = value.partition(":")
    if not ID_PATTERN.fullmatch(key_id) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("must be mk_<id>:<sha256 of its secret>, as scripts/create-efs makes it")
    return value


FirstKey = Annotated[str, AfterValidator(_first_key)]
Groups = Annotated[frozenset[Literal["metrics", "models", "ui"]], NoDecode, BeforeValidator(_groups)]


class KeySettings(BaseSettings):
    """Part of Settings."""

    auth: Annotated[Literal["open", "required"], IN_ANY_CASE] = Field(
        "open",
        description="`required`: who calls must send a key (docs/security.md#keys). `open`: whoever reaches the server "
        "may call; only what operators do asks for a key.",
    )
    public: Groups = Field(
        frozenset(),
        description="Comma-separated, of `metrics` (`/metrics`), `models` (`/models`, `/mount_check`) and `ui` "
        "(pages): what is answered without a key where one is required.",
        json_schema_extra={"shown": "unset"},
    )
    first_key: FirstKey | None = Field(
        None,
        repr=False,
        description="`mk_<id>:<sha256>` of a key that may do everything, whatever `keys.json` says unless it is "
        "revoked there; `scripts/create-efs` makes one.",
    )
    operator_key: Secret | None = Field(
        None,
        repr=False,
        description="A key with the scope `operate` and nothing else. `scripts/keys create --scope operate` makes a "
        "better one, which can be revoked.",
    )


def first_key(settings: KeySettings) -> Key | None:
    """The key that the environment brings."""
    if settings.first_key is None:
        return None
    key_id, _, sha256 = settings.first_key.partition(":")
    return Key(key_id, sha256, "first key", frozenset(SCOPES))
