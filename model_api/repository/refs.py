"""refs.json: which versions of a model serve, and what is known of them. publishing/rules.py says how it changes.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import BadJson, parse_json, whole_number
from model_api.repository.manifest import SHA256_PATTERN, check_name

REFS_NAME = "refs.json"
MAX_REFS_BYTES = 2 * 2**20  # some 14,000 versions
MAX_GENERATION = 2**53 - 1  # what every JSON reader can hold
_KNOWN_KEYS = frozenset(
    {"generation", "stable", "previous", "canary", "published", "last_good", "proven", "refused", "deleted"}
)


@dataclass(frozen=True)
class Ref:
    """A version by name and by content."""

    version: str
    digest: str


@dataclass(frozen=True)
class Canary:
    """A version that answers `percent` of the callers, 0 < percent <= 100."""

    version: str
    digest: str
    percent: float

    @property
    def ref(self) -> Ref:
        return Ref(self.version, self.digest)


@dataclass(frozen=True)
class Refs:
    """What serves. `generation` counts the changes; `published` are all versions ever completed, retired ones too, so
    that no number is used twice.

    `last_good` is the latest version that was stable and is proven: an instance had it ready, or its author's own load
    passed. `previous` is where a rollback goes: a proven version where one is known, never a refused one.
    A release that doesn't know `last_good`, `proven`, `refused` and `deleted` gets along with the other keys.
    """

    generation: int
    stable: Ref | None = None
    previous: Ref | None = None
    canary: Canary | None = None
    published: Mapping[str, str] = field(default_factory=dict)  # version -> digest, in the order of publishing
    last_good: Ref | None = None
    proven: tuple[str, ...] = ()  # versions that an instance had ready and none refuses
    refused: Mapping[str, str] = field(default_factory=dict)  # version -> who refuses it and why
    deleted: str = ""  # a tombstone: why this name is no model any more
    unknown: Mapping[str, Any] = field(default_factory=dict)  # keys of a later release, which are kept

    def named(self) -> dict[str, str]:
        """version -> digest of what the refs name: stable first, then canary, then what stands in for stable."""
        refs = (self.stable, self.canary, self.last_good, self.previous)
        return {ref.version: ref.digest for ref in refs if ref is not None}

    def stand_ins(self) -> tuple[Ref, ...]:
        """What serves where stable can't be had, the best first. It is the same on every instance."""
        found = [ref for ref in (self.last_good, self.previous) if ref is not None and ref != self.stable]
        return tuple(dict.fromkeys(found))

    def to_json(self) -> str:
        document = {
            **self.unknown,
            "generation": self.generation,
            "stable": _to_raw(self.stable),
            "previous": _to_raw(self.previous),
            "canary": _to_raw(self.canary),
            "last_good": _to_raw(self.last_good),
            "published": dict(self.published),
            "proven": list(self.proven),
            "refused": dict(self.refused),
            **({"deleted": self.deleted} if self.deleted else {}),
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Refs:
        """Parse and check. Raises Refused naming refs.json."""
        try:
            raw = parse_json(text, MAX_REFS_BYTES)
            generation = whole_number(raw["generation"], "generation", 0, MAX_GENERATION)
            published = raw.get("published") or {}
            return cls(
                generation,
                _ref(raw.get("stable")),
                _ref(raw.get("previous")),
                _canary(raw.get("canary")),
                {check_name("version", version): _digest(digest) for version, digest in published.items()},
                last_good=_ref(raw.get("last_good")),
                proven=tuple(check_name("version", version) for version in raw.get("proven") or ()),
                refused={check_name("version", v): str(why) for v, why in (raw.get("refused") or {}).items()},
                deleted=str(raw.get("deleted") or ""),
                unknown={key: value for key, value in raw.items() if key not in _KNOWN_KEYS},
            )
        except Refused as error:
            raise Refused(REFS_NAME, str(error)) from error
        except BadJson as error:
            raise Refused(REFS_NAME, str(error)) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused(REFS_NAME, f"not valid refs ({type(error).__name__}: {error})") from error


def _to_raw(ref: Ref | Canary | None) -> dict[str, Any] | None:
    return None if ref is None else dict(vars(ref))


def _digest(raw: Any) -> str:
    if not isinstance(raw, str) or not SHA256_PATTERN.fullmatch(raw):
        raise ValueError(f"digest {raw!r}")
    return raw


def _ref(raw: Any) -> Ref | None:
    return None if raw is None else Ref(check_name("version", raw["version"]), _digest(raw["digest"]))


def _canary(raw: Any) -> Canary | None:
    if raw is None:
        return None
    return Canary(check_name("version", raw["version"]), _digest(raw["digest"]), check_percent(raw["percent"]))


def check_percent(percent: float) -> float:
    """`percent` itself. Raises Refused unless 0 < percent <= 100."""
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 < percent <= 100:
        raise Refused("", f"canary percent {percent!r}: must be above 0 and at most 100")
    return percent
