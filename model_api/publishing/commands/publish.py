"""`publish`: its arguments, and the way from a folder to a version that every instance serves.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_api.errors import Refused, RepositoryError
from model_api.publishing import ssh as remote
from model_api.publishing.announce import wake
from model_api.publishing.changes import Outcome, init, seal
from model_api.publishing.commands import waiting
from model_api.publishing.commands.arguments import add_change_options, add_wait_options, terms_of
from model_api.publishing.commands.checking import check_load, foresee, run_check
from model_api.publishing.commands.following import WAIT_CODES, NearStore, Store, tell
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.commands.waiting import Verdict, Watch, wait
from model_api.publishing.draft import Draft, draft, publish
from model_api.publishing.far_side import FarSide
from model_api.publishing.load_check import Loaded
from model_api.repository.known_tasks import TASKS
from model_api.repository.layout import Layout
from model_api.repository.manifest import Probe, check_name, parse_probe
from model_api.repository.refs import check_percent
from model_api.repository.signatures import sign
from model_api.repository.statuses import prune_statuses
from model_api.repository.units import mb


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
    command.add_argument(
        "--atomic",
        action="store_true",
        help="--wait, and go back by itself if an instance refuses it, unless somebody else made a newer change",
    )
    add_change_options(command)
    add_wait_options(command)
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
        target = remote.Target.parse(parsed.to, parsed.ssh, parsed.python)
        there = ["publish", *(["--init"] if parsed.init else []), *(["--seal", parsed.seal] if parsed.seal else [])]
        there += ["--force"] if parsed.force else []
        return remote.run_there(target, there)
    if parsed.init and not parsed.to:
        new = init(parsed.root, parsed.force)
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
    manifest = made.manifest
    print(f"{parsed.model}: {manifest.task}, {len(manifest.files)} files, {mb(manifest.size_bytes)}", file=sys.stderr)
    for note in made.notes:
        print(note, file=sys.stderr)
    loaded = None if parsed.no_check else check_load(made)
    made = _completed(made, loaded, parsed.sign)
    if parsed.dry_run:
        there = "nothing was sent" if parsed.to else foresee(Layout(parsed.root), made, parsed.version, parsed.canary)
        print(there)
        return 0
    source = str(Path(parsed.folder).absolute())
    terms = replace(terms_of(parsed, read=not parsed.to), source=source, checked=loaded is not None)
    if parsed.to:
        with FarSide(remote.Target.parse(parsed.to, parsed.ssh, parsed.python)) as far:
            far_outcome = far.publish(made, parsed.version, parsed.canary, parsed.init, terms)
            return _finish(parsed, far_outcome, far)
    with ProgressLine("copying") as line:
        outcome = publish(Layout(parsed.root), made, line.show, parsed.version, parsed.canary, terms)
    for instance in prune_statuses(parsed.status_dir):
        print(f"{instance} hasn't reported for a long time; its status is removed", file=sys.stderr)
    if parsed.wait or parsed.atomic:
        wake(Layout(parsed.root), parsed.model)
    return _finish(parsed, outcome, NearStore(Layout(parsed.root), parsed.status_dir, parsed.model, terms))


def _completed(made: Draft, loaded: Loaded | None, key: str | None) -> Draft:
    """The draft with what trying it has shown, signed with `key` if there is one. Raises RepositoryError."""
    manifest = made.manifest
    if loaded is not None:
        manifest = replace(manifest, accuracy=loaded.accuracy)
    if key:
        manifest = replace(manifest, signature=sign(manifest, key))
    return replace(made, manifest=manifest)


def _finish(parsed: argparse.Namespace, outcome: Outcome, store: Store) -> int:
    for warning in outcome.warnings:
        print(f"publish: warning: {warning}", file=sys.stderr)
    print(outcome.message, flush=True)
    if not parsed.wait and not parsed.atomic:
        return 0
    watch = Watch(parsed.model, outcome.ref, parsed.canary is not None, live_s=waiting.LIVE_S, hasty=parsed.atomic)
    verdict = wait(watch, store.sight, tell, parsed.wait_timeout)
    print(f"{parsed.model}@{outcome.ref.version}: {watch.words(verdict)}", flush=True)
    if verdict is Verdict.REFUSED and parsed.atomic and outcome.changed:
        instance, said = watch.refusals().popitem()
        print(f"{parsed.model}: {store.take_back(outcome, f'{instance}: {said.reason}')}", flush=True)
    else:
        with contextlib.suppress(RepositoryError, OSError):  # somebody else's change; the next command takes it down
            store.take_down(watch.statuses)
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
