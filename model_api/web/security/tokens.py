"""JSON Web Tokens as keys: who signed them decides what they may, this project only reads it.

HS256 to HS512 by a secret of the settings, RS, PS, ES and EdDSA by the public keys of a JWKS. Each is for its own
algorithms, whatever a token says: a public key is no secret, and `none` is nothing. A token says `sub`, `exp` and
`scope` (or `scopes`, `scp`), and may say `models` and `rates` as a key does.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from model_api.errors import Unauthenticated
from model_api.repository.keys import SCOPES, Rate, checked_models
from model_api.settings import Settings
from model_api.web.callers import Caller
from model_api.web.security.jwks import Jwks

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SYMMETRIC = {"HS256": 32, "HS384": 48, "HS512": 64}  # and how many bytes a secret must have at least (RFC 7518, 3.2)
MAX_KNOWN = 1024  # tokens whose signature needn't be checked again
LATEST = 2**40  # the year 36812
_SHAPE = re.compile(r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class Known:
    """A token that was checked."""

    caller: Caller
    until: float  # in seconds since 1970, with the leeway


class TokenReader:
    """Any thread; waits for nothing. Where the settings name no signer it imports nothing, and knows no token."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._secret = None if settings.jwt_secret is None else settings.jwt_secret.encode()
        self._jwks = None if settings.jwt_jwks is None else Jwks(settings.jwt_jwks, self._forget)
        self._audience, self._issuer = settings.jwt_audience, settings.jwt_issuer
        self._leeway_s = settings.jwt_leeway_s
        self._clock = clock
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        if self._jwks is not None:
            self._jwks.start()

    def stop(self) -> None:
        if self._jwks is not None:
            self._jwks.stop()

    def read(self, text: str) -> Caller | None:
        """Whom a token names; None for what is none, or without any signer. Raises Unauthenticated, KeysUnknown."""
        if (self._secret is None and self._jwks is None) or not _SHAPE.fullmatch(text):
            return None
        digest = sha256(text.encode()).digest()
        with self._lock:
            known = self._known.get(digest)
        if known is not None and known.until > self._clock():
            return known.caller
        claims = self._verified(text)
        caller = _caller_of(claims)
        with self._lock:
            self._known[digest] = Known(caller, min(int(claims["exp"]), LATEST) + self._leeway_s)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return caller

    def _forget(self) -> None:
        """Other signers count now."""
        with self._lock:
            self._known.clear()

    def _verified(self, text: str) -> Mapping[str, Any]:
        import jwt

        try:
            key, algorithms = self._key_for(jwt.get_unverified_header(text))
            claims: Mapping[str, Any] = jwt.decode(
                text,
                key,
                algorithms=algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("the token isn't valid yet: is a clock wrong?") from None
        except jwt.InvalidAudienceError:
            raise Unauthenticated("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated("the token is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):  # never its text: it may quote the token
            raise Unauthenticated("no token that this server can verify") from None
        return claims

    def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
        """The key that the settings have for such a token. Raises Unauthenticated, KeysUnknown."""
        algorithm = header.get("alg")
        if self._secret is not None and len(self._secret) >= SYMMETRIC.get(str(algorithm), 2**31):
            return self._secret, [str(algorithm)]
        if self._jwks is not None and algorithm in ASYMMETRIC:
            return self._jwks.key(header.get("kid"), algorithm), [algorithm]
        raise Unauthenticated("this server takes no tokens that are signed in this way")


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    """Raises Unauthenticated where a limit isn't understood; a scope of somebody else's is nothing here."""
    subject, models, rates = claims["sub"], claims.get("models"), claims.get("rates", [])
    if not _SUBJECT.fullmatch(subject):
        raise Unauthenticated("the token's sub must be 1 to 128 visible ASCII characters")
    told = next((claims[name] for name in ("scope", "scopes", "scp") if name in claims), "")
    names = told.split() if isinstance(told, str) else told
    try:
        if not isinstance(names, list) or not isinstance(rates, list):
            raise TypeError
        scopes = frozenset(name for name in names if name in SCOPES)
        allowed = None if models is None else checked_models([models] if isinstance(models, str) else list(models))
        return Caller(f"jwt:{subject}", scopes, allowed, tuple(Rate.parse(rate) for rate in rates))
    except (ValueError, TypeError):
        raise Unauthenticated("the token's scope, models or rates can't be understood") from None
