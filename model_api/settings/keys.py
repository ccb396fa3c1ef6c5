"""The settings of who may call."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from model_api.repository import environment
from model_api.repository.keys import ID_PATTERN, SCOPES, Key
from model_api.settings.jobs import IN_ANY_CASE
from model_api.settings.jobs import Key as Secret

MIN_SECRET_BYTES = 32


def _groups(value: Any) -> Any:
    return [part.strip().lower() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _first_key(value: str) -> str:
    key_id, _, sha256 = value.partition(":")
    if not ID_PATTERN.fullmatch(key_id) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("must be mk_<id>:<sha256 of its secret>, as scripts/create-efs makes it")
    return value


def _jwt_secret(value: str) -> str:
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes (48 for HS384, 64 for HS512)")
    if value.startswith(("-----BEGIN", "ssh-")):
        raise ValueError("is a public key, and no secret: MODEL_API_JWT_JWKS takes those, as a JWKS")
    return value


def _jwks(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        return value
    if "://" in value:
        raise ValueError("must be a file, or an address of https (http on this machine alone)")
    return str(environment.absolute_path(value))


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
        repr=False,  # somebody may set the key itself
        description="`mk_<id>:<sha256>` of a key that may do everything, whatever `keys.json` says unless it is "
        "revoked there; `scripts/create-efs` makes one.",
    )
    jwt_secret: Annotated[str, AfterValidator(_jwt_secret)] | None = Field(
        None, repr=False, description="Secret of whoever signs tokens with HS256 (HS384, HS512): at least 32 bytes."
    )
    jwt_audience: str | None = Field(
        None, description="What a token's `aud` must name. Needed with MODEL_API_JWT_JWKS."
    )
    jwt_issuer: str | None = Field(None, description="What a token's `iss` must be.")
    jwt_jwks: Annotated[str, AfterValidator(_jwks)] | None = Field(
        None,
        repr=False,
        description="File or https address of the public keys (JWKS) of whoever signs tokens with RS, PS, ES or EdDSA.",
    )
    jwt_leeway_s: float = Field(
        30.0, ge=0, le=600, description="Seconds by which the clock of whoever signs tokens may differ from this one's."
    )
    operator_key: Secret | None = Field(
        None,
        repr=False,
        description="A key with the scope `operate` and nothing else. `scripts/keys create --scope operate` makes a "
        "better one, which can be revoked.",
    )

    @field_validator("jwt_jwks")
    @classmethod
    def _for_somebody(cls, value: str | None, info: ValidationInfo) -> str | None:
        """An issuer signs for many: without an audience, a token for any of them would do here."""
        if value is not None and not info.data.get("jwt_audience"):
            raise ValueError("needs MODEL_API_JWT_AUDIENCE too")
        return value


def first_key(settings: KeySettings) -> Key | None:
    """The key that the environment brings."""
    if settings.first_key is None:
        return None
    key_id, _, sha256 = settings.first_key.partition(":")
    return Key(key_id, sha256, "first key", frozenset(SCOPES))
