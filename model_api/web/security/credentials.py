"""What a request brings to say who calls: a key or a token, as Bearer, X-Api-Key or a password."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_api.errors import Unauthenticated
from model_api.repository.keys import ID_PATTERN

MAX_CHARS = 8192


@dataclass(frozen=True)
class Credential:
    """`text` is a key, a token or whatever else was sent; it is never shown. `source` says where it stood."""

    text: str
    source: str


def credential_of(environ: Mapping[str, Any]) -> Credential | None:
    """Of a WSGI environment; None if there is none. X-Api-Key goes before Authorization. Raises Unauthenticated for a
    Basic header that can't be read."""
    api_key = str(environ.get("HTTP_X_API_KEY", "")).strip()
    if api_key:
        return Credential(api_key[:MAX_CHARS], "X-Api-Key")
    kind, _, value = str(environ.get("HTTP_AUTHORIZATION", "")).strip().partition(" ")
    value = value.strip()[:MAX_CHARS]
    if not kind:
        return None
    if kind.lower() == "bearer":
        return Credential(value, "Bearer")
    if kind.lower() == "basic":
        return Credential(_key_in(value), "Basic")
    raise Unauthenticated("Authorization must be Bearer KEY, or Basic with the key as password")


def _key_in(encoded: str) -> str:
    """The password is the whole key, whoever the user is; or the user is `mk_<id>` and the password its secret."""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthenticated("Authorization: Basic must be followed by base64 of user:password") from None
    return f"{user}_{password}" if ID_PATTERN.fullmatch(user) and not password.startswith("mk_") else password
