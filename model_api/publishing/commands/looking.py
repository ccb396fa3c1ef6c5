"""`show` and `history`: what a version is made of, and who changed what. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from model_api.errors import Refused
from model_api.publishing import history
from model_api.publishing.changes import manifest_on_disk, read_refs, require_model
from model_api.publishing.commands.following import sightings
from model_api.repository.layout import Layout
from model_api.repository.manifest import Manifest, check_name
from model_api.repository.refs import Ref, Refs
from model_api.repository.statuses import read_statuses
from model_api.repository.units import mb


def add_show_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME[@VERSION]", help="default: the stable version")
    command.add_argument("--json", action="store_true", help="the manifest with all that is known, as JSON")


def run_show(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryUnavailable, OSError."""
    layout, (name, _, version) = Layout(parsed.root), parsed.name.partition("@")
    require_model(layout, name)
    refs = read_refs(layout, name)
    version = _resolve(refs, name, version)
    manifest = manifest_on_disk(layout, name, version)
    known = {
        "roles": roles(refs, version),
        "proven": version in refs.proven,
        "refused": refs.refused.get(version),
    }
    if parsed.json:
        print(json.dumps({**json.loads(manifest.to_json()), **known}, indent=1, ensure_ascii=False))
        return 0
    print("\n".join(_lines(manifest, known)))
    print(f"instances: {sightings(name, Ref(version, manifest.digest), read_statuses(parsed.status_dir))}")
    return 0


def _resolve(refs: Refs, name: str, version: str) -> str:
    """A version by number, or by its role in the refs."""
    by_role = {"": refs.stable, "stable": refs.stable, "previous": refs.previous, "last_good": refs.last_good}
    ref = refs.canary.ref if version == "canary" and refs.canary else by_role.get(version)
    if ref is not None:
        return ref.version
    if version in ("", *by_role, "canary"):
        known = f"; versions: {', '.join(refs.published)}" if refs.published else ""
        raise Refused("", f"{name} has no {version or 'stable'} version{known}")
    return check_name("version", version)


def roles(refs: Refs, version: str) -> list[str]:
    """What the refs name it."""
    named = (("stable", refs.stable), ("previous", refs.previous), ("last good", refs.last_good))
    found = [role for role, ref in named if ref is not None and ref.version == version]
    if refs.canary is not None and refs.canary.version == version:
        found.append(f"canary {refs.canary.percent:g} %")
    return found


def _lines(manifest: Manifest, known: Mapping[str, Any]) -> list[str]:
    proof = f"refused by {known['refused']}" if known["refused"] else "proven" if known["proven"] else "not proven yet"
    lines = [
        f"{manifest.model}@{manifest.version}  {', '.join(known['roles']) or 'no ref names it'}; {proof}",
        f"task:      {manifest.task}",
        f"digest:    {manifest.digest}",
        f"memory:    {mb(manifest.memory_bytes)} at the peak of loading",
        "options:   " + (", ".join(f"{k}={json.dumps(v)}" for k, v in manifest.options.items()) or "none"),
        f"probes:    {len(manifest.probes) or 'none'}",
    ]
    if manifest.accuracy is not None:
        lines.append(f"accuracy:  {manifest.accuracy.sentence()}")
    lines += [f"  {json.dumps(list(p.inputs), ensure_ascii=False)[:100]}" for p in manifest.probes]
    lines.append(f"files:     {len(manifest.files)}, {mb(manifest.size_bytes)}")
    width = max(len(entry.path) for entry in manifest.files)
    return [*lines, *(f"  {entry.path:<{width}}  {mb(entry.size_bytes):>8}" for entry in manifest.files)]


def add_history_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("--json", action="store_true", help="the same as JSON")


def run_history(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryUnavailable, OSError."""
    layout = Layout(parsed.root)
    require_model(layout, parsed.name)
    entries = history.read(layout, parsed.name, read_refs(layout, parsed.name).generation)
    if parsed.json:
        print(json.dumps({"history": entries}, indent=1, ensure_ascii=False))
        return 0
    for entry in entries:
        print(_sentence(entry))
    if not entries:
        print(f"{parsed.name}: no history is kept of what older releases did")
    return 0


def _sentence(entry: Mapping[str, Any]) -> str:
    """ "2026-11-25 17:31:13  publish  1 -> 2  anna@laptop  from ./mini: retrained"."""
    at = str(entry.get("at", "?"))[:19].replace("T", " ")
    change = f"{entry.get('was', 'none')} -> {entry.get('stable', 'none')}"
    canary = f" canary {entry['canary']}" if entry.get("canary") else ""
    source = f"  from {entry['from']}" if entry.get("from") else ""
    message = f": {entry['message']}" if entry.get("message") else ""
    forced = " (forced)" if entry.get("forced") else ""
    return f"{at}  {entry.get('did', '?'):<8}  {change}{canary}  {entry.get('who', '?')}{source}{forced}{message}"
