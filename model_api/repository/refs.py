"""refs.json: which versions of a model serve. Parsing, and the pure rules by which it changes.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import BadJson, parse_json, whole_number
from model_api.repository.manifest import SHA256_PATTERN, check_name

REFS_NAME = "refs.json"
MAX_REFS_BYTES = 2 * 2**20  # some 14,000 versions
MAX_GENERATION = 2**53 - 1  # what every JSON reader can hold


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
    that no number is used twice."""

    generation: int
    stable: Ref | None = None
    previous: Ref | None = None
    canary: Canary | None = None
    published: Mapping[str, str] = field(default_factory=dict)  # version -> digest
    deleted: str = ""  # a tombstone: why this name is no model any more

    def named(self) -> dict[str, str]:
        """version -> digest of what the refs name: stable first, then canary, then previous."""
        refs = (self.stable, self.canary, self.previous)
        return {ref.version: ref.digest for ref in refs if ref is not None}

    def to_json(self) -> str:
        document = {
            "generation": self.generation,
            "stable": _to_raw(self.stable),
            "previous": _to_raw(self.previous),
            "canary": _to_raw(self.canary),
            "published": dict(self.published),
            **({"deleted": self.deleted} if self.deleted else {}),
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Refs:
        """Parse and check. Raises Refused naming refs.json. Unknown keys are left aside."""
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
                deleted=str(raw.get("deleted") or ""),
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


# The rules. Each takes what serves now and gives what shall serve; generation counts up where something changed.


def with_stable(refs: Refs, ref: Ref) -> Refs:
    """`ref` serves; what served before is kept as previous. Ends a canary."""
    if refs.stable == ref and refs.canary is None:
        return refs
    previous = refs.previous if refs.stable == ref else refs.stable
    return replace(refs, generation=refs.generation + 1, stable=ref, previous=previous, canary=None)


def with_canary(refs: Refs, ref: Ref, percent: float) -> Refs:
    """`ref` answers `percent` of the callers beside stable. Raises Refused where that makes no sense."""
    canary = Canary(ref.version, ref.digest, check_percent(percent))
    if refs.stable is None:
        raise Refused("", "no stable version yet, so nothing to be a canary beside; publish without --canary first")
    if refs.stable == ref:
        raise Refused("", f"version {ref.version} is the stable one already; a canary must be another")
    return refs if refs.canary == canary else replace(refs, generation=refs.generation + 1, canary=canary)


def rolled_back(refs: Refs) -> Refs:
    """With a canary: end it, stable stays. Else previous and stable change places; a second time undoes it."""
    if refs.canary is not None:
        return replace(refs, generation=refs.generation + 1, canary=None)
    if refs.previous is None:
        raise Refused("", "no previous version to go back to")
    return replace(refs, generation=refs.generation + 1, stable=refs.previous, previous=refs.stable)


def unloaded(refs: Refs) -> Refs:
    """Nothing serves any more: the explicit word without which no instance unloads a published model."""
    if not refs.named():
        return refs
    return replace(refs, generation=refs.generation + 1, stable=None, previous=None, canary=None)


def with_published(refs: Refs, ref: Ref) -> Refs:
    """`ref` counts as completed from now on."""
    return replace(refs, published={**refs.published, ref.version: ref.digest})
