"""Options that several commands share, and what follows from them. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse

from model_api.errors import Refused
from model_api.publishing.terms import MAX_MESSAGE_CHARS, Terms, this_author
from model_api.repository.statuses import read_statuses

EXIT_CODES = """exit codes:
  0    done, or there was nothing to do
  1    failed for a reason that may pass: store not mounted, disk full, transfer broken, somebody else's change
  2    wrong arguments
  3    refused: the message names the file, version or model, and what to do
  4    --wait: an instance refuses the version
  5    --wait: no instance reports at all
  6    --wait: not everywhere within --wait-timeout
  7    --wait: superseded, somebody else made another version serve
  8    --wait: no live instance is set up to serve this model
  130  interrupted"""


def add_store_options(command: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Which store, and where. `again`: for a command within a command, after whose name they may stand as well."""
    hidden = argparse.SUPPRESS
    for option, metavar, default, what in (
        ("--root", "PATH", None, "the store (default: MODEL_API_EFS_ROOT, else efs beside model_api/)"),
        ("--to", "[USER@]HOST:PATH", None, "work on a store mounted on another host"),
        ("--ssh", "COMMAND", "ssh", "how to reach that host (default: ssh)"),
        ("--python", "COMMAND", "python3", "the Python there"),
        ("--author", None, "", hidden),  # who runs it on the near side of --to
    ):
        command.add_argument(option, metavar=metavar, default=hidden if again else default, help=what)


def add_change_options(command: argparse.ArgumentParser) -> None:
    """For commands that change what serves."""
    command.add_argument("-m", "--message", metavar="TEXT", default="", help="why; scripts/history shows it")
    command.add_argument(
        "--expect-previous",
        metavar="VERSION",
        help="change nothing unless this version is stable beforehand (none: no version)",
    )
    command.add_argument("--force", action="store_true", help="even where the instances say no")


def add_wait_options(command: argparse.ArgumentParser) -> None:
    """For commands that every live instance follows."""
    command.add_argument("--wait", action="store_true", help="until every live instance has followed")
    command.add_argument("--wait-timeout", metavar="SECONDS", type=float, default=600.0, help="default: 600")


def terms_of(parsed: argparse.Namespace, *, read: bool = True) -> Terms:
    """On what terms the command was given; `read` the statuses of the store that is here. Raises Refused, OSError."""
    message = " ".join(parsed.message.split())
    if len(message) > MAX_MESSAGE_CHARS:
        raise Refused("", f"--message: {len(message)} characters, at most {MAX_MESSAGE_CHARS}")
    return Terms(
        author=parsed.author or this_author(),
        message=message,
        force=parsed.force,
        expected=parsed.expect_previous,
        statuses=read_statuses(parsed.status_dir) if read else {},
    )
