"""`publish --check`, `--dry-run`, and the load before a publish.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.errors import LoadFailed, Refused
from model_api.publishing.changes import check_before_copy, free_version, read_refs
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.draft import Draft, draft
from model_api.publishing.inspection import inspect
from model_api.publishing.load_check import Loaded, lacking, load_really
from model_api.publishing.same_content import find_existing
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import Probe
from model_api.repository.units import mb

PASSED, REFUSED = 0, 3


def check_load(made: Draft) -> Loaded | None:
    """Load the draft as instances will, if this machine can, and say so on standard error; None if it can't. Raises
    Refused, LoadFailed."""
    missing = lacking(made.manifest.task)
    if missing:
        print(f"not tried here: {missing} is missing, so the instances are the first to load it", file=sys.stderr)
        return None
    loaded = load_really(made)
    probes = f", {loaded.probes} probes hold" if loaded.probes else ""
    print(f"loaded and tried here in {loaded.precision}{probes}", file=sys.stderr)
    if loaded.accuracy is not None:
        print(loaded.accuracy.sentence(), file=sys.stderr)
    return loaded


def run_check(parsed: argparse.Namespace, probes: Sequence[Probe], options: Mapping[str, Any]) -> int:
    """Tell everything that is wrong with the folder, and what --exclude mends of it. Publishes nothing. Raises Refused
    for what is no model's folder, OSError."""
    folder = Path(parsed.folder)
    seen = inspect(folder, parsed.task, options, parsed.exclude)
    told = [str(problem.error()) for problem in seen.problems]
    mends, exclude = seen.excludes(), [*parsed.exclude, *seen.excludes()]
    rest = inspect(folder, parsed.task, options, exclude).problems if mends else seen.problems
    left = [str(problem.error()) for problem in rest]
    told += [text for text in left if text not in told]
    if not rest:
        try:
            with ProgressLine("hashing") as line:
                made = draft(folder, "unnamed", line.show, parsed.task, options, probes, exclude)
            n_files, n_bytes = len(made.manifest.files), mb(made.manifest.size_bytes)
            print(f"{folder}: {made.manifest.task}, {n_files} files, {n_bytes}")
            for note in made.notes:
                print(f"  {note}")
            if not parsed.no_check:
                check_load(made)
        except (Refused, LoadFailed) as error:
            left.append(str(error))
            told.append(str(error))
    if not told:
        print(f"{folder}: nothing is wrong with it")
        return PASSED
    print(f"{folder}: {len(told)} refusal{'s' * (len(told) > 1)}")
    for text in told:
        print(f"  {' '.join(text.splitlines())}")
    if mends:
        print(f"what mends {'some' if left else 'all'} of it:")
        print("  " + " ".join(f"--exclude {shlex.quote(pattern)}" for pattern in mends))
    return REFUSED


def foresee(layout: Layout, made: Draft, version: str | None, canary_percent: float | None) -> str:
    """What publishing the draft would do, in one line. Raises Refused where it would be refused, RepositoryError,
    OSError."""
    mount_check(layout.root)
    name, manifest = made.manifest.model, made.manifest
    with ProgressLine("comparing") as line:
        existing = find_existing(layout, manifest, line.show)
    role = "stable" if canary_percent is None else f"canary for {canary_percent:g} % of callers"
    if existing is not None:
        state = "whole" if existing.is_whole else f"damaged ({len(existing.wrong)} files would be put right)"
        return f"{name}: version {existing.ref.version} is this very content and {state}; it would be {role}"
    if not layout.model(name).is_dir():
        return f"{name}: a new model; version {version or '1'} would be {role}"
    check_before_copy(layout, manifest, version, canary_percent)
    stable, number = read_refs(layout, name).stable, free_version(layout, name, version)
    return f"{name}: version {number} would be {role} (stable now: {stable.version if stable else 'none'})"
