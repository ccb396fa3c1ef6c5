"""`models`: what is published, which instances serve what since when, and what is refused. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model_api.errors import Refused
from model_api.repository.manifest import check_name
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from model_api.repository.statuses import Status, read_statuses

_COLUMNS = ("MODEL", "VERSION", "DIGEST", "REFS", "INSTANCE", "STATE", "SINCE")
_PRECISION_COLUMN = "PRECISION"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?", help="one model, with all its versions on disk")
    command.add_argument(
        "--precision",
        action="store_true",
        help="also what each instance computes in, and why it isn't what was asked for",
    )
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
        print(json.dumps({"models": models, "ignored": dict(repository.oddities)}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(table(models, parsed.precision, repository.oddities)))
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
            states = {digest: status.state_of(published.name, digest) for digest in _digests(model)}
            told = {key: model.get(key) for key in ("version", "digest", "state", "since")}
            refused = model.get("refused") or []
            instances.append(
                {
                    "instance": instance,
                    **told,
                    "states": states,
                    "sinces": _told(model, "since"),
                    "precisions": _told(model, "precision"),
                    "precision_reasons": _told(model, "precision_reason"),
                    "min_cosines": _min_cosines(model),
                    "refused": refused,
                }
            )
    return {
        "name": published.name,
        "generation": refs.generation if refs is not None else None,
        "plain": published.plain,
        "waiting": published.waiting,
        "versions": [
            {"version": version, "digest": digests.get(version), "refs": held} for version, held in roles.items()
        ],
        "refused": _refused(published, instances),
        "instances": instances,
    }


def _refused(published: Published, instances: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    if published.plain and instances:
        return []  # they say what serves of it and why not: a look from here knows no earlier content
    return [{"version": version, "reason": reason} for version, reason in published.refused.items()]


def _entries(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a status says of the model as a whole, and of each of its versions."""
    return [model, *(version for version in model.get("versions") or () if isinstance(version, dict))]


def _digests(model: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(str(entry["digest"]) for entry in _entries(model) if entry.get("digest")))


def _told(model: Mapping[str, Any], key: str) -> dict[str, str]:
    """What that instance says of each digest; `since` is by its own clock."""
    return {str(entry["digest"]): str(entry[key]) for entry in _entries(model) if entry.get(key)}


def _min_cosines(model: Mapping[str, Any]) -> dict[str, float]:
    """Of each digest's precision there to float32, where its publish measured it."""
    accuracies = {str(entry["digest"]): entry.get("accuracy") for entry in _entries(model) if entry.get("digest")}
    known = {digest: told.get("min_cosine") for digest, told in accuracies.items() if isinstance(told, dict)}
    return {digest: float(cosine) for digest, cosine in known.items() if isinstance(cosine, (int, float))}


def _precision(instance: Mapping[str, Any], digest: str) -> str:
    cosine = instance["min_cosines"].get(digest)
    return str(instance["precisions"].get(digest, "-")) + (f" (cosine >= {cosine:.4f})" if cosine is not None else "")


def table(
    models: Sequence[Mapping[str, Any]], precision: bool = False, ignored: Mapping[str, str] | None = None
) -> list[str]:
    """The lines for a person; `ignored` lies where models lie and is none."""
    if not models and not ignored:
        return ["nothing is published yet"]
    rows: list[Sequence[str]] = [(*_COLUMNS, _PRECISION_COLUMN) if precision else _COLUMNS]
    for model in models:
        rows += _rows(model, precision)
    notes = [note for model in models for note in _notes(model)]
    notes += [f"{name}: ignored: {why}" for name, why in (ignored or {}).items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines += ["", "not served:", *(f"  {note}" for note in notes)] if notes else []
    reasons = _precision_reasons(models) if precision else []
    return [*lines, *(["", "not in the precision asked for:"] if reasons else []), *reasons]


def _notes(model: Mapping[str, Any]) -> Iterator[str]:
    def named(version: Any) -> str:
        return f"{model['name']}@{version}" if version else str(model["name"])

    for refusal in model["refused"]:
        yield f"{named(refusal['version'])}: {refusal['reason']}"
    for instance in model["instances"]:
        said = "waiting on" if instance["state"] == "waiting" else "refused by"
        for refusal in instance["refused"]:
            says = "says" if instance["digest"] and not refusal.get("version") else said
            yield f"{named(refusal.get('version'))}: {says} {instance['instance']}: {refusal.get('reason')}"


def _precision_reasons(models: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"  {model['name']} on {instance['instance']}: {reason}"
        for model in models
        for instance in model["instances"]
        for reason in instance["precision_reasons"].values()
    ]


def _rows(model: Mapping[str, Any], precision: bool) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    known = [*model["versions"]]
    named = {version["digest"] for version in known}
    elsewhere = dict.fromkeys(digest for i in model["instances"] for digest in i["states"] if digest not in named)
    refs = ["plain copy"] if model["plain"] else []
    known += [{"version": digest[:12], "digest": digest, "refs": refs} for digest in elsewhere]
    for version in known or [{"version": "-", "digest": None, "refs": refs}]:
        head = (model["name"], version["version"], (version["digest"] or "-")[:12], ", ".join(version["refs"]) or "-")
        having = [(i, i["states"][version["digest"]]) for i in model["instances"] if version["digest"] in i["states"]]
        for i, state in having:
            told = [i["sinces"].get(version["digest"], "-")]
            told += [_precision(i, version["digest"])] if precision else []
            rows.append((*head, i["instance"], state, *told))
        if not having:
            state = "waiting" if model["waiting"] else "-"
            rows.append((*head, "-", state, "-", *("-" for _ in range(precision))))
    return rows
