"""`rename`, `copy`, `gc`: the store in order. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse

from model_api.publishing import renaming
from model_api.publishing.commands.arguments import add_change_options, terms_of
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.removal import remove_rubbish, rubbish
from model_api.repository.layout import Layout
from model_api.repository.units import mb


def add_naming_arguments(command: argparse.ArgumentParser) -> None:
    """Of rename and copy."""
    command.add_argument("name", metavar="NAME")
    command.add_argument("new", metavar="NEW")
    command.add_argument("--sign", metavar="KEY", default="", help="sign it under the new name, as in publish")
    add_change_options(command)


def run_rename(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryError, OSError."""
    with ProgressLine("copying") as line:
        refs = renaming.rename(Layout(parsed.root), parsed.name, parsed.new, line.show, terms_of(parsed), parsed.sign)
    print(
        f"{parsed.name} is {parsed.new} now, with {len(refs.published)} versions and their history; {parsed.name} ends"
        " on every instance. Instances with MODEL_API_MODELS must list the new name"
    )
    return 0


def run_copy(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryError, OSError."""
    with ProgressLine("copying") as line:
        refs = renaming.copy(Layout(parsed.root), parsed.name, parsed.new, line.show, terms_of(parsed), parsed.sign)
    version = refs.stable.version if refs.stable else "?"
    print(f"{parsed.new}: version {version} of {parsed.name} is stable there; instances load it now")
    return 0


def add_gc_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?", help="default: every model")
    command.add_argument("--dry-run", action="store_true", help="only say what would go")


def run_gc(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryUnavailable, OSError."""
    layout = Layout(parsed.root)
    found = rubbish(layout, parsed.name)
    gone = found if parsed.dry_run else remove_rubbish(layout, found)
    for one in gone:
        print(f"{one.path.relative_to(layout.models)}  {mb(one.size_bytes)}  {one.what}")
    verb = "would be freed" if parsed.dry_run else "freed"
    print(f"{mb(sum(one.size_bytes for one in gone))} {verb}")
    stay = [one for one in found if one not in gone]
    for one in stay:
        print(f"{one.path.relative_to(layout.models)} stays: an upload is under way there")
    return 0
