"""`models`: what is published, which instances serve what since when, and what is refused. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from model_api.errors import Refused
from model_api.manifest import check_name
from model_api.repository import Published, Repository
from model_api.statuses import Status, read_statuses

_COLUMNS = ("MODEL", "VERSION", "DIGEST", "REFS", "INSTANCE", "STATE", "SINCE")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?", help="one model, with all its versions on disk")
    command.add_argument("--json", action="store_true", help="the same as JSON")


def run(parsed: argparse.Namespace) -> int:
    """Print the table. Raises Refused for an unknown NAME, RepositoryUnavailable, OSError."""
    repository = Repository(parsed.root)
    if parsed.name is not None:
        check_name("model", parsed.name)
    observation = repository.observe(None if parsed.name is None else [parsed.name])
    if parsed.name is not None and parsed.name not in observation:
        raise Refused("", f"no model named {parsed.name!r} is published in {parsed.root}")
    statuses = read_statuses(parsed.status_dir)
    models = [
        describe(published, repository.versions(name) if parsed.name else (), statuses)
        for name, published in observation.items()
    ]
    if parsed.json:
        print(json.dumps({"models": models}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(table(models)))
    return 0


def describe(published: Published, on_disk: Sequence[str], statuses: Mapping[str, Status]) -> dict[str, Any]:
    """One model as `--json` shows it."""
    refs = published.refs
    named = refs.named() if refs is not None and not published.plain else {}
    roles: dict[str, list[str]] = {version: [] for version in [*named, *on_disk]}
    if refs is not None and not published.plain:
        for role, ref in (("stable", refs.stable), ("previous", refs.previous)):
            if ref is not None:
                roles[ref.version].append(role)
        if refs.canary is not None:
            roles[refs.canary.version].append(f"canary {refs.canary.percent:g} %")
    digests = {**(refs.published if refs is not None else {}), **named}
    instances = []
    for instance, status in statuses.items():
        model = status.model(published.name)
        if model:
            served = {key: model.get(key) for key in ("version", "digest", "state", "since", "canary", "refused")}
            instances.append({"instance": instance, **served})
    return {
        "name": published.name,
        "generation": refs.generation if refs is not None else None,
        "plain": published.plain,
        "versions": [
            {"version": version, "digest": digests.get(version), "refs": held} for version, held in roles.items()
        ],
        "refused": [{"version": version, "reason": reason} for version, reason in published.refused.items()],
        "instances": instances,
    }


def table(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines for a person."""
    if not models:
        return ["nothing is published yet"]
    rows: list[Sequence[str]] = [_COLUMNS]
    notes: list[str] = []
    for model in models:
        rows += _rows(model)
        for refusal in model["refused"]:
            version = f"@{refusal['version']}" if refusal["version"] else ""
            notes.append(f"{model['name']}{version}: {refusal['reason']}")
        for instance in model["instances"]:
            for refusal in instance["refused"] or ():
                what = f"{model['name']}@{refusal.get('version')}"
                notes.append(f"{what}: refused by {instance['instance']}: {refusal.get('reason')}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [*lines, *(["", "not served:"] if notes else []), *(f"  {note}" for note in notes)]


def _rows(model: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    reported: set[str] = set()
    known = [*model["versions"]]
    if model["plain"] or not known:
        digests = dict.fromkeys(str(i["digest"]) for i in model["instances"] if i["digest"])
        known = [{"version": digest[:12], "digest": digest, "refs": ["plain copy"]} for digest in digests]
        known = known or [{"version": "-", "digest": None, "refs": ["plain copy"] if model["plain"] else []}]
    for version in known:
        head = (model["name"], version["version"], (version["digest"] or "-")[:12], ", ".join(version["refs"]) or "-")
        serving = [i for i in model["instances"] if version["digest"] and _serves(i, version["digest"])]
        reported |= {i["instance"] for i in serving}
        rows += [(*head, i["instance"], str(i["state"] or "-"), str(i["since"] or "-")) for i in serving]
        if not serving:
            rows.append((*head, "-", "-", "-"))
    for i in model["instances"]:
        if i["instance"] not in reported:
            version, digest = str(i["version"] or "-"), str(i["digest"] or "-")[:12]
            rows.append((model["name"], version, digest, "-", i["instance"], str(i["state"] or "-"), "-"))
    return rows


def _serves(instance: Mapping[str, Any], digest: str) -> bool:
    canary = instance["canary"]
    return instance["digest"] == digest or (isinstance(canary, dict) and canary.get("digest") == digest)
