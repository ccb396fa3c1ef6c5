"""The pure rules by which refs change. Each takes what serves now and gives what shall serve; none counts generations.

Refs move on proof: what becomes `previous`, and where a rollback goes, is a version that is proven where one is known,
and never one that an instance refuses.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from model_api.errors import Refused
from model_api.repository.refs import Canary, Ref, Refs, check_percent
from model_api.repository.statuses import Status

_REASON_CHARS = 300


def with_evidence(refs: Refs, name: str, statuses: Mapping[str, Status]) -> Refs:
    """What the instances say of each version, taken down: proven is what one has ready and none refuses."""
    proven, refused = set(refs.proven), dict(refs.refused)
    for version, digest in {**refs.published, **refs.named()}.items():
        said = {i: status.said_of(name, Ref(version, digest)) for i, status in statuses.items()}
        refusing = {instance: one.reason for instance, one in said.items() if one.state == "refused"}
        if refusing:
            instance, reason = next(iter(refusing.items()))
            proven.discard(version)
            refused[version] = f"{instance}: {reason}"[:_REASON_CHARS]
        elif any(one.is_ready for one in said.values()):
            proven.add(version)
            refused.pop(version, None)
    return _settled(replace(refs, proven=_in_order(refs, proven), refused=refused))


def with_proof(refs: Refs, ref: Ref) -> Refs:
    """`ref` is proven by its author's own load."""
    refused = {version: why for version, why in refs.refused.items() if version != ref.version}
    return _settled(replace(refs, proven=_in_order(refs, {*refs.proven, ref.version}), refused=refused))


def without_refusal(refs: Refs, version: str) -> Refs:
    """`version` is another thing than what was refused: its files were put right."""
    return replace(refs, refused={other: why for other, why in refs.refused.items() if other != version})


def without_proof(refs: Refs, version: str, why_refused: str = "") -> Refs:
    """`version` is no longer known to be good (it is retired), or is refused for a reason."""
    refused = {**refs.refused, version: why_refused[:_REASON_CHARS]} if why_refused else refs.refused
    return _settled(replace(refs, proven=tuple(v for v in refs.proven if v != version), refused=refused))


def with_stable(refs: Refs, ref: Ref) -> Refs:
    """`ref` is stable. What was stable is kept as previous if it is proven; else what was proven before it is, if
    anything. Ends a canary, and a tombstone."""
    if refs.stable == ref and refs.canary is None:
        return refs
    previous = refs.previous
    if refs.stable != ref:
        previous = _best(refs, (refs.stable, refs.last_good, refs.previous), other_than=ref)
    return _settled(replace(refs, stable=ref, previous=previous, canary=None, deleted=""))


def with_canary(refs: Refs, ref: Ref, percent: float) -> Refs:
    """`ref` answers `percent` of the callers beside stable. Raises Refused where that makes no sense."""
    canary = Canary(ref.version, ref.digest, check_percent(percent))
    if refs.stable is None:
        raise Refused("", "no stable version yet, so nothing to be a canary beside; publish without --canary first")
    if refs.stable == ref:
        raise Refused("", f"version {ref.version} is the stable one already; a canary must be another")
    return replace(refs, canary=canary)


def rollback_target(refs: Refs) -> Ref:
    """Where a rollback goes: previous, unless it isn't proven and another version is. Raises Refused."""
    target = _best(refs, (refs.previous, refs.last_good, *_proven_before(refs)), other_than=refs.stable)
    if target is not None:
        return target
    refused = [f"version {version} is refused by {why}" for version, why in refs.refused.items()]
    raise Refused("", f"no previous version to go back to{': ' if refused else ''}{'; '.join(refused)}")


def rolled_back(refs: Refs) -> Refs:
    """With a canary: end it, stable stays. Else go back; where both are proven, a second time undoes it."""
    if refs.canary is not None:
        return replace(refs, canary=None)
    return with_stable(refs, rollback_target(refs))


def taken_back(refs: Refs, before: Refs, ref: Ref, why_refused: str) -> Refs:
    """A publish of `ref` undone because it is refused: `before` serves again. What somebody else changed since stays:
    another stable or canary version is left alone."""
    refs = without_proof(refs, ref.version, why_refused)
    if refs.canary is not None and refs.canary.ref == ref:
        refs = replace(refs, canary=before.canary)
    if refs.stable == ref:
        canary = refs.canary or before.canary
        refs = replace(refs, stable=before.stable, previous=before.previous, canary=canary, deleted=before.deleted)
    return _settled(refs)


def unloaded(refs: Refs, deleted: str = "") -> Refs:
    """Nothing serves any more: the explicit word without which no instance unloads a published model. `deleted` says
    why the name is no model any more."""
    return replace(refs, stable=None, previous=None, canary=None, last_good=None, deleted=deleted)


def with_published(refs: Refs, ref: Ref) -> Refs:
    """`ref` counts as completed from now on."""
    return replace(refs, published={**refs.published, ref.version: ref.digest})


def serves_the_same(one: Refs, other: Refs) -> bool:
    """Whether only what is known of the versions differs, not what serves."""
    return (one.stable, one.canary, one.deleted) == (other.stable, other.canary, other.deleted)


def _settled(refs: Refs) -> Refs:
    """`last_good` and `previous` as they follow from what is proven and refused."""
    if refs.stable is None:
        return refs
    if refs.stable.version in refs.proven:
        last_good: Ref | None = refs.stable
    else:
        last_good = next(_good(refs, (refs.last_good, refs.previous, *_proven_before(refs))), None)
    previous = refs.previous
    if previous is not None and previous.version in refs.refused:
        previous = _best(refs, (last_good, *_proven_before(refs)), other_than=refs.stable)
    return replace(refs, last_good=last_good, previous=previous)


def _best(refs: Refs, candidates: Iterable[Ref | None], other_than: Ref | None) -> Ref | None:
    """The first that is proven; where none is, the first that isn't refused."""
    possible = [c for c in candidates if c is not None and c != other_than and c.version not in refs.refused]
    return next(_good(refs, possible), possible[0] if possible else None)


def _good(refs: Refs, candidates: Iterable[Ref | None]) -> Iterator[Ref]:
    return (ref for ref in candidates if ref is not None and ref.version in refs.proven)


def _proven_before(refs: Refs) -> list[Ref]:
    """The proven versions but stable, the latest first."""
    stable = refs.stable.version if refs.stable else None
    known = [version for version in reversed(list(refs.published)) if version in refs.proven and version != stable]
    return [Ref(version, refs.published[version]) for version in known]


def _in_order(refs: Refs, proven: Iterable[str]) -> tuple[str, ...]:
    order = list(refs.published)
    return tuple(sorted(proven, key=lambda v: (order.index(v) if v in order else len(order), v)))
