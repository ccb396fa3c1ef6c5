"""`publish`: its arguments, and the way from a folder to a version that every instance serves.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.publishing import ssh as remote
from model_api.publishing.changes import Outcome, init, seal
from model_api.publishing.commands import waiting
from model_api.publishing.commands.checking import check_load, foresee, run_check
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.commands.waiting import Verdict, Watch, wait
from model_api.publishing.draft import Draft, draft, publish
from model_api.repository.known_tasks import TASKS
from model_api.repository.layout import Layout
from model_api.repository.manifest import Probe, check_name, parse_probe
from model_api.repository.refs import check_percent
from model_api.repository.signatures import sign
from model_api.repository.statuses import Status, prune_statuses, read_statuses
from model_api.repository.units import mb

WAIT_CODES = {Verdict.CONVERGED: 0, Verdict.REFUSED: 4, Verdict.NO_LIVE_STATUS: 5, Verdict.TIMED_OUT: 6}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="DIR", nargs="?", help="the model's folder, or a Hugging Face snapshot")
    command.add_argument("--model", metavar="NAME", help="the name to publish it under")
    command.add_argument("--version", metavar="V", help="default: one more than the highest number so far")
    command.add_argument("--task", metavar="T", help=f"one of {', '.join(sorted(TASKS))} (default: as its files say)")
    command.add_argument(
        "--probe", metavar="FILE", help='JSON or JSON lines of {"inputs", "outputs", "parameters"?, "tolerance"?}'
    )
    command.add_argument("--option", metavar="KEY=VALUE", action="append", default=[], help="an option of the task")
    command.add_argument("--exclude", metavar="GLOB", action="append", default=[], help="files to leave out")
    command.add_argument(
        "--sign", metavar="KEY", help="sign it with this SSH key (a public key's file: its private key is in the agent)"
    )
    command.add_argument("--canary", metavar="PERCENT", type=float, help="serve it to this share of callers only")
    command.add_argument("--wait", action="store_true", help="until every live instance serves it")
    command.add_argument("--wait-timeout", metavar="SECONDS", type=float, default=600.0, help="default: 600")
    command.add_argument("--check", action="store_true", help="publish nothing; tell everything that is wrong with DIR")
    command.add_argument("--dry-run", action="store_true", help="publish nothing; check, and tell what would happen")
    command.add_argument("--no-check", action="store_true", help="don't load the model here before publishing it")
    command.add_argument("--init", action="store_true", help="set the store up first, if it isn't")
    command.add_argument("--seal", metavar="NAME", help="declare a plainly copied folder complete (writes SHA256SUMS)")
    command.set_defaults(usage_error=command.error)


def run(parsed: argparse.Namespace) -> int:
    """The whole command. Returns the exit code; raises what commands.main reports."""
    if parsed.check:
        if parsed.folder is None:
            parsed.usage_error("--check DIR")
        return run_check(parsed, read_probes(Path(parsed.probe)) if parsed.probe else (), _options(parsed))
    publishing = parsed.folder is not None
    if publishing != (parsed.model is not None):
        parsed.usage_error("DIR and --model NAME belong together")
    if not publishing and not parsed.init and not parsed.seal:
        parsed.usage_error("give DIR and --model NAME, or --seal NAME, or --init")
    if parsed.to and not publishing:
        target = remote.Target.parse(parsed.to, parsed.ssh)
        there = ["publish", *(["--init"] if parsed.init else []), *(["--seal", parsed.seal] if parsed.seal else [])]
        return remote.run_there(target, there)
    if parsed.init and not parsed.to:
        new = init(parsed.root)
        print(f"{parsed.root}: {'set up' if new else 'a store already'}")
    if parsed.seal:
        n_files = seal(Layout(parsed.root), parsed.seal)
        print(f"{parsed.seal}: {n_files} files sealed; every instance takes this content at its next look")
    return _publish(parsed) if publishing else 0


def _publish(parsed: argparse.Namespace) -> int:
    if parsed.canary is not None:
        check_percent(parsed.canary)
    if parsed.version is not None:
        check_name("version", parsed.version)
    probes = read_probes(Path(parsed.probe)) if parsed.probe else ()
    options = _options(parsed)
    with ProgressLine("checking") as line:
        made = draft(Path(parsed.folder), parsed.model, line.show, parsed.task, options, probes, parsed.exclude)
    if parsed.sign:
        made = replace(made, manifest=replace(made.manifest, signature=sign(made.manifest, parsed.sign)))
    manifest = made.manifest
    print(f"{parsed.model}: {manifest.task}, {len(manifest.files)} files, {mb(manifest.size_bytes)}", file=sys.stderr)
    for note in made.notes:
        print(note, file=sys.stderr)
    if not parsed.no_check:
        check_load(made)
    if parsed.dry_run:
        there = "nothing was sent" if parsed.to else foresee(Layout(parsed.root), made, parsed.version, parsed.canary)
        print(there)
        return 0
    if parsed.to:
        return _publish_there(parsed, made)
    with ProgressLine("copying") as line:
        outcome = publish(Layout(parsed.root), made, line.show, parsed.version, parsed.canary)
    for instance in prune_statuses(parsed.status_dir):
        print(f"{instance} hasn't reported for a long time; its status is removed", file=sys.stderr)
    return _finish(parsed, outcome, lambda: read_statuses(parsed.status_dir))


def _publish_there(parsed: argparse.Namespace, made: Draft) -> int:
    with remote.FarSide(remote.Target.parse(parsed.to, parsed.ssh)) as far:
        outcome = far.publish(made, parsed.version, parsed.canary, parsed.init)
        return _finish(parsed, outcome, far.statuses)


def _finish(parsed: argparse.Namespace, outcome: Outcome, read: Callable[[], Mapping[str, Status]]) -> int:
    print(outcome.message, flush=True)
    if not parsed.wait:
        return 0
    watch = Watch(parsed.model, outcome.ref, canary=parsed.canary is not None, live_s=waiting.LIVE_S)
    verdict = wait(watch, read, lambda text: print(f"  {text}", flush=True), parsed.wait_timeout)
    print(f"{parsed.model}@{outcome.ref.version}: {verdict.value}", flush=True)
    return WAIT_CODES[verdict]


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    return dict(parse_option(option) for option in parsed.option)


def parse_option(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value in JSON where it is that, else as it stands. Raises Refused."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise Refused("", f"--option {text!r}: must be KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def read_probes(file: Path) -> tuple[Probe, ...]:
    """The probes of a JSON file (one, or a list of them) or of JSON lines. Raises Refused naming the file; OSError."""
    text = file.read_text("utf-8")
    try:
        try:
            document = json.loads(text)
        except ValueError:
            document = [json.loads(line) for line in text.splitlines() if line.strip()]
        raws = document if isinstance(document, list) else [document]
        probes = tuple(parse_probe(raw) for raw in raws)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise Refused(str(file), f"not probes ({what})") from error
    if not probes:
        raise Refused(str(file), "holds no probes")
    return probes
