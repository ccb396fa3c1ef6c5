"""keys.json on the shared file system: who may call, and what. It holds no secret, only the sha256 of each.

A key is `mk_<id>_<secret>`; its secret has 256 random bits, so a plain hash of it is as good as a slow one. An entry
that can't be understood is no key, whatever else it says; a file that can't be read is Refused as a whole.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import BadJson, parse_json
from model_api.repository.layout import KEYS_NAME
from model_api.repository.manifest import NAME_PATTERN

FORMAT = 1
MAX_BYTES = 8 * 2**20
MAX_KEYS = 10_000
MAX_NAME_CHARS = 100
SCOPES: Mapping[str, str] = {
    "predict": "ask models",
    "jobs": "ask for jobs, send uploads, and see one's own",
    "history": "see and annotate what was predicted",
    "status": "see what is published, what serves it, and the metrics",
    "operate": "change how the service runs: forget cached answers",
}
ID_PATTERN = re.compile(r"mk_[a-z0-9]{4,32}")
TOKEN_PATTERN = re.compile(r"(mk_[a-z0-9]{4,32})_([A-Za-z0-9_-]{32,128})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"([1-9]\d{0,11})(?: (requests|tokens))?/(second|minute|hour|day)")
_FIELDS = frozenset({"id", "name", "sha256", "scopes", "models", "created", "expires", "revoked", "rates"})


@dataclass(frozen=True)
class Rate:
    """At most `amount` of `unit` (requests or tokens) in any `per_s` seconds, for each model by itself."""

    amount: int
    per_s: int
    unit: str = "requests"

    @classmethod
    def parse(cls, text: str) -> Rate:
        """`100/minute`, `20000 tokens/hour`. Raises ValueError."""
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:40]!r} is no rate: 100/minute, or 20000 tokens/hour (second, minute, hour, day)")
        return cls(int(found[1]), _UNITS_S[found[3]], found[2] or "requests")

    def __str__(self) -> str:
        per = next(name for name, seconds in _UNITS_S.items() if seconds == self.per_s)
        return f"{self.amount} {self.unit}/{per}"


@dataclass(frozen=True)
class Key:
    """One key. Moments are seconds since 1970, by the clock of whoever wrote them."""

    id: str  # with its mk_
    sha256: str  # of the secret, in hexadecimal
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None  # None: all
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None
    rates: tuple[Rate, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "sha256": self.sha256,
            "scopes": sorted(self.scopes),
            "models": None if self.models is None else sorted(self.models),
            "created": moment(self.created),
            "expires": None if self.expires is None else moment(self.expires),
            "revoked": None if self.revoked is None else moment(self.revoked),
            "rates": [str(rate) for rate in self.rates],
        }

    @classmethod
    def from_json(cls, raw: Any) -> Key:
        """Raises ValueError saying what is wrong. A field that this release doesn't know may be a limit: it is wrong
        too."""
        if not isinstance(raw, Mapping):
            raise ValueError("not an object")
        if unknown := sorted(set(raw) - _FIELDS):
            raise ValueError(f"has {unknown[0][:40]!r}, which this release doesn't know")
        models = raw.get("models")
        return cls(
            id=_matching(raw.get("id"), ID_PATTERN, "id"),
            sha256=_matching(raw.get("sha256"), _SHA256, "sha256"),
            name=checked_name(raw.get("name", "")),
            scopes=checked_scopes(_texts(raw.get("scopes"), "scopes")),
            models=None if models is None else checked_models(_texts(models, "models")),
            created=_seconds(raw.get("created")) or 0.0,
            expires=_seconds(raw.get("expires")),
            revoked=_seconds(raw.get("revoked")),
            rates=tuple(Rate.parse(text) for text in _texts(raw.get("rates", []), "rates")),
        )


@dataclass(frozen=True)
class Keys:
    """What the file says: its keys by id, and what of it is none, with the reason."""

    by_id: Mapping[str, Key]
    faults: tuple[str, ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> Keys:
        """Raises Refused for what isn't such a file at all."""
        try:
            document = parse_json(data, MAX_BYTES)
            if not isinstance(document, Mapping) or document.get("format") != FORMAT:
                raise BadJson(f'not an object with "format": {FORMAT}')
            entries = document.get("keys")
            if not isinstance(entries, list):
                raise BadJson('"keys" is not a list')
            if len(entries) > MAX_KEYS:
                raise BadJson(f"{len(entries)} keys; at most {MAX_KEYS} are read")
        except BadJson as error:
            raise Refused(KEYS_NAME, str(error)) from None
        found: dict[str, Key] = {}
        faults, twice = [], set()
        for index, raw in enumerate(entries):
            try:
                key = Key.from_json(raw)
            except ValueError as error:
                faults.append(f"keys[{index}]: {error}")
                continue
            if key.id in found:  # which of the two was meant, nobody can know
                twice.add(key.id)
                faults.append(f"keys[{index}]: {key.id} a second time")
            found[key.id] = key
        return cls({key_id: key for key_id, key in found.items() if key_id not in twice}, tuple(faults))

    @classmethod
    def read(cls, file: Path) -> Keys:
        """Raises Refused, OSError."""
        return cls.from_bytes(read_bounded(file, MAX_BYTES))

    def to_json(self) -> str:
        entries = [key.to_json() for key in self.by_id.values()]
        return json.dumps({"format": FORMAT, "keys": entries}, indent=1, ensure_ascii=False) + "\n"


def make_token() -> tuple[str, str, str]:
    """A fresh key: its id, the whole of it, and the sha256 of its secret."""
    key_id, secret = f"mk_{secrets.token_hex(6)}", secrets.token_urlsafe(32)
    return key_id, f"{key_id}_{secret}", hash_of(secret)


def hash_of(secret: str) -> str:
    """The sha256 of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def moment(seconds: float) -> str:
    """`2027-01-01T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str) -> float:
    """Of `2027-01-01`, `2027-01-01T12:00`, with Z or an offset; without one it is UTC. Raises ValueError."""
    try:
        parsed = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("z", "Z") else text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=timezone.utc)
        return parsed.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no moment: 2027-01-01, or 2027-01-01T12:00:00Z") from None


def checked_name(name: Any) -> str:
    """What people call a key: one printable line. Raises ValueError."""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise ValueError(f"name must be one line of at most {MAX_NAME_CHARS} characters")
    return name


def checked_scopes(scopes: Sequence[str]) -> frozenset[str]:
    """Raises ValueError."""
    if not scopes:
        raise ValueError(f"no scope is given; there are {', '.join(SCOPES)}")
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(f"{scope[:40]!r} is no scope; there are {', '.join(SCOPES)}")
    return frozenset(scopes)


def checked_models(models: Sequence[str]) -> frozenset[str]:
    """Raises ValueError."""
    if not models:
        raise ValueError("models must name at least one, or be null for all")
    for name in models:
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(f"{name[:70]!r} is no model's name")
    return frozenset(models)


def _matching(raw: Any, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(raw, str) or not pattern.fullmatch(raw):
        raise ValueError(f"{what} must be {pattern.pattern}")
    return raw


def _texts(raw: Any, what: str) -> list[str]:
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise ValueError(f"{what} must be a list of texts")
    return raw


def _seconds(raw: Any) -> float | None:
    if raw is None:
        return None
    if not isinstance(raw, str):
        raise ValueError("a moment must be a text")
    return parse_moment(raw)
