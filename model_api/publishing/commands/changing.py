"""`promote`, `rollback`, `retire`, `delete`: what serves, and what serves no longer. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from model_api.errors import Refused
from model_api.publishing import sim_choice
from model_api.publishing.announce import wake
from model_api.publishing.changes import manifest_on_disk, on_disk, read_refs, require_model
from model_api.publishing.commands import waiting
from model_api.publishing.commands.arguments import add_change_options, add_wait_options, terms_of
from model_api.publishing.commands.following import follow, follow_absence, sightings
from model_api.publishing.moves import Move, promote, rollback
from model_api.publishing.removal import delete, retire, serving_instances, undo_retire, unload
from model_api.repository.layout import Layout
from model_api.repository.manifest import check_name
from model_api.repository.reader import read_sim_choice
from model_api.repository.statuses import read_statuses


def add_promote_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", nargs="?", help="default: the canary")
    command.add_argument("--sim", action="store_true", help="let NAME answer /sim for callers that name no model")
    add_change_options(command)
    add_wait_options(command)


def run_promote(parsed: argparse.Namespace) -> int:
    """Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    layout = Layout(parsed.root)
    if parsed.sim:
        _give_sim(layout, parsed.name)
        if parsed.version is None and read_refs(layout, parsed.name).canary is None:
            return 0
    terms = terms_of(parsed)
    return _tell_move(parsed, promote(layout, parsed.name, parsed.version, terms))


def _give_sim(layout: Layout, name: str) -> None:
    require_model(layout, name)
    stable = read_refs(layout, name).stable
    if stable is None or manifest_on_disk(layout, name, stable.version).task != sim_choice.TASK:
        raise Refused("", f"{name} serves no embeddings, which /sim needs")
    was = sim_choice.choose(layout, name)
    told = f" (was {was})" if was not in (None, name) else ""
    print(f"/sim without a model is answered by {name} from now on{told}")


def add_rollback_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    add_change_options(command)
    add_wait_options(command)


def run_rollback(parsed: argparse.Namespace) -> int:
    """Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    return _tell_move(parsed, rollback(Layout(parsed.root), parsed.name, terms_of(parsed)))


def _tell_move(parsed: argparse.Namespace, move: Move) -> int:
    before, after, name = move.before, move.after, parsed.name
    stable = after.stable.version if after.stable else "none"
    was = before.stable.version if before.stable else "none"
    ended = f"; canary {before.canary.version} ended" if before.canary else ""
    if (after.stable, after.canary) == (before.stable, before.canary):
        print(f"{name}: version {stable} is stable already; nothing changed")
    else:
        stays = f"version {stable} stays stable" if was == stable else f"version {stable} is now stable (was {was})"
        print(f"{name}: {stays}{ended}")
    for version, why in move.passed_over().items():
        print(f"  version {version} is passed over: it is refused by {why}")
    if after.stable is None:
        return 0
    print(f"  {sightings(name, after.stable, read_statuses(parsed.status_dir))}", flush=True)
    return follow(parsed, name, after.stable)


def add_retire_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", nargs="?")
    command.add_argument("--all", action="store_true", help="take the whole model out of service; its versions stay")
    command.add_argument("--undo", action="store_true", help="put a retired VERSION back; promote lets it serve")
    add_change_options(command)
    add_wait_options(command)
    command.set_defaults(usage_error=command.error)


def run_retire(parsed: argparse.Namespace) -> int:
    """Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    layout, name, version = Layout(parsed.root), parsed.name, parsed.version
    if (version is None) != parsed.all or (parsed.all and parsed.undo):
        parsed.usage_error("give a VERSION, or --all")
    terms = terms_of(parsed)
    if parsed.all:
        move = unload(layout, name, terms)
        print(f"{name}: {'taken out of service' if move.after != move.before else 'out of service already'}")
        return follow_absence(parsed, name, None)
    if parsed.undo:
        undo_retire(layout, name, version, terms)
        print(f"{name}@{version} is back; scripts/promote {name} {version} lets it serve")
        return 0
    require_model(layout, name)
    ref = on_disk(layout, name, version)
    statuses = terms.statuses
    if not parsed.force:  # what a dead instance served last is no reason to keep it
        wake(layout, name)
        statuses = waiting.living(
            lambda: read_statuses(parsed.status_dir),
            lambda found: set(serving_instances(name, {version: ref.digest}, found)),
            waiting.LIVE_S,
        )
    where = retire(layout, name, version, replace(terms, statuses=statuses))
    print(f"{name}@{version} lies in {where} now; --undo brings it back, scripts/gc {name} frees its space")
    return follow_absence(parsed, name, ref)


def add_delete_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("--yes", action="store_true", help="don't ask")
    add_change_options(command)
    add_wait_options(command)


def run_delete(parsed: argparse.Namespace) -> int:
    """Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    layout, name = Layout(parsed.root), check_name("model", parsed.name)
    terms = terms_of(parsed)
    serving = [i for i, status in terms.statuses.items() if status.model(name).get("version")]
    if not parsed.yes:
        _ask(name, serving)
    move = delete(layout, name, terms, known=bool(serving))
    told = "deleted already" if move.before.deleted and move.before == move.after else "deleted"
    print(f"{name}: {told}; its versions lie in {layout.trash(name)}, scripts/gc {name} frees their space")
    if read_sim_choice(layout) == name:
        print(f"{name} answered /sim for callers that name no model; scripts/promote OTHER --sim chooses another")
    return follow_absence(parsed, name, None)


def _ask(name: str, serving: list[str]) -> None:
    """Raises Refused unless the author types the model's name."""
    served = f", which {len(serving)} instances serve now" if serving else ""
    if not sys.stdin.isatty():
        raise Refused("", f"this ends {name}{served}, on every instance; --yes confirms it")
    print(f"This ends {name}{served}, on every instance. Type its name to confirm: ", end="", flush=True)
    if sys.stdin.readline().strip() != name:
        raise Refused("", "not confirmed; nothing changed")
