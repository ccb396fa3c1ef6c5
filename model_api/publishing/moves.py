"""Let another version that lies in the store serve: promote, roll back, take a refused publish back.

Each reads what the instances say (in its Terms) and writes it down beside the refs. Stdlib only, Python 3.9.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_api.errors import Refused
from model_api.publishing.changes import change_refs, locked, manifest_on_disk, read_refs, require_model
from model_api.publishing.rules import rollback_target, rolled_back, taken_back, with_published, with_stable
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.repository.layout import Layout
from model_api.repository.refs import Ref, Refs


@dataclass(frozen=True)
class Move:
    """Refs before and after a change."""

    before: Refs
    after: Refs

    def passed_over(self) -> dict[str, str]:
        """Refused versions that lie between where this went and where it came from, with the reasons."""
        if self.after.stable is None or self.before.stable is None:
            return {}
        order = list(self.after.published)
        between = order[order.index(self.after.stable.version) + 1 :] if self.after.stable.version in order else []
        if self.before.stable.version in between:
            between = between[: between.index(self.before.stable.version)]
        return {version: self.after.refused[version] for version in between if version in self.after.refused}


def promote(layout: Layout, name: str, version: str | None, terms: Terms = NO_TERMS) -> Move:
    """Make `version` (None: the canary) the stable one; ends a canary. Raises Refused (also for what an instance
    refuses, unless forced), RefsConflict, RepositoryUnavailable, OSError."""
    require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)
        if version is None and before.canary is None:
            raise Refused("", f"{name} has no canary to promote; name a version")
        chosen = before.canary.version if version is None and before.canary else str(version)
        ref = require_whole(layout, name, chosen)

        def change(refs: Refs) -> Refs:
            terms.require_not_refused(refs, name, ref)
            return with_stable(with_published(refs, ref), ref)

        return Move(before, change_refs(layout, name, "promote", change, terms))


def rollback(layout: Layout, name: str, terms: Terms = NO_TERMS) -> Move:
    """End the canary if there is one, else go back to the last version that is known to be good. Raises Refused,
    RefsConflict, RepositoryUnavailable, OSError."""
    require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)

        def change(refs: Refs) -> Refs:
            if refs.canary is None:
                require_whole(layout, name, rollback_target(refs).version)
            return rolled_back(refs)

        return Move(before, change_refs(layout, name, "rollback", change, terms))


def take_back(layout: Layout, name: str, before: Refs, ref: Ref, why: str, terms: Terms = NO_TERMS) -> Move:
    """Undo the publish of `ref`, which is refused: what served `before` serves again. A newer change of somebody else
    stays. Raises RefsConflict, OSError."""
    with locked(layout, name):
        now = read_refs(layout, name)
        return Move(now, change_refs(layout, name, "take back", lambda refs: taken_back(refs, before, ref, why), terms))


def take_down(layout: Layout, name: str, terms: Terms) -> None:
    """Write down what the instances say, without changing what serves. Raises RefsConflict, OSError."""
    with locked(layout, name):
        change_refs(layout, name, "", lambda refs: refs, terms)


def require_whole(layout: Layout, name: str, version: str) -> Ref:
    """The version that lies in versions/ with all its files. Raises Refused naming the first that is missing."""
    manifest = manifest_on_disk(layout, name, version)
    for entry in manifest.files:
        file = layout.version(name, version) / entry.path
        if not file.is_file() or file.stat().st_size != entry.size_bytes:
            raise Refused(
                entry.path, f"missing or cut short in {name}@{version}; publish its content again to repair it"
            )
    return Ref(version, manifest.digest)
