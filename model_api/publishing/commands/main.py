"""The authors' commands: publish, promote, rollback, retire, models.

Stdlib only, Python 3.9: an author's laptop, or the far side of --to, needs nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from model_api.errors import ModelApiError, Refused
from model_api.publishing import ssh as remote
from model_api.publishing.changes import promote, retire, rollback, unload
from model_api.publishing.commands import models as models_command
from model_api.publishing.commands import publish as publish_command
from model_api.repository.environment import efs_root, status_dir
from model_api.repository.layout import Layout
from model_api.repository.refs import Refs

DONE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = """exit codes:
  0    done, or there was nothing to do
  1    failed for a reason that may pass: store not mounted, disk full, transfer broken, somebody else's change
  2    wrong arguments
  3    refused: the message names the file, version or model, and what to do
  4    --wait: an instance refuses the version
  5    --wait: no instance reports at all
  6    --wait: not everywhere within --wait-timeout
  130  interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Failures are one line on standard error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.to and parsed.verb != "publish":
            return remote.run_there(remote.Target.parse(parsed.to, parsed.ssh), _without_to(arguments))
        parsed.root = Path(parsed.root).absolute() if parsed.root else efs_root()
        parsed.status_dir = status_dir() or Layout(parsed.root).statuses
        run: Callable[[argparse.Namespace], int] = parsed.run
        return run(parsed)
    except KeyboardInterrupt:
        return _complain(parsed.verb, "interrupted", INTERRUPTED)
    except Refused as error:
        return _complain(parsed.verb, str(error), REFUSED)
    except BrokenPipeError:  # the reader of our output left: `scripts/models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _complain(parsed.verb, f"{error.strerror or error}{where}", FAILED)
    except ModelApiError as error:
        return _complain(parsed.verb, str(error), FAILED)


def _complain(verb: str, message: str, code: int) -> int:
    print(f"{verb}: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _without_to(arguments: Sequence[str]) -> list[str]:
    """The same command for the far side, where the store is simply there."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument not in ("--to", "--ssh") and not argument.startswith(("--to=", "--ssh=")):
            kept.append(argument)
        skip = not skip and argument in ("--to", "--ssh")
    return kept


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model_api", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = verbs.add_parser(
            name,
            help=what,
            description=what,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        command.add_argument("--root", metavar="PATH", help="the store (default: MODEL_API_EFS_ROOT, else ./efs)")
        command.add_argument("--to", metavar="[USER@]HOST:PATH", help="work on a store mounted on another host")
        command.add_argument("--ssh", metavar="COMMAND", default="ssh", help="how to reach that host (default: ssh)")
        return command

    publish_command.add_arguments(
        verb("publish", "Publish a model folder as the next version, and let it serve.", publish_command.run)
    )

    command = verb("promote", "Let a version serve as the stable one; ends a canary.", _promote)
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", nargs="?", help="default: the canary")

    command = verb("rollback", "End the canary; without one, go back to the previous version.", _rollback)
    command.add_argument("name", metavar="NAME")

    command = verb("retire", "Move a version that no ref names to .trash. Its number stays taken.", _retire)
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", nargs="?")
    command.add_argument("--all", action="store_true", help="take the whole model out of service; its versions stay")
    command.set_defaults(usage_error=command.error)

    models_command.add_arguments(
        verb("models", "Show what is published, which instances serve it, and what is refused.", models_command.run)
    )
    return parser


def _promote(parsed: argparse.Namespace) -> int:
    return _tell(parsed.name, promote(Layout(parsed.root), parsed.name, parsed.version))


def _rollback(parsed: argparse.Namespace) -> int:
    return _tell(parsed.name, rollback(Layout(parsed.root), parsed.name))


def _retire(parsed: argparse.Namespace) -> int:
    if (parsed.version is None) != parsed.all:
        parsed.usage_error("give a VERSION, or --all")
    if parsed.all:
        before, after = unload(Layout(parsed.root), parsed.name)
        print(f"{parsed.name}: {'taken out of service' if after != before else 'out of service already'}")
        return DONE
    where = retire(Layout(parsed.root), parsed.name, parsed.version)
    print(f"{parsed.name}@{parsed.version} lies in {where} now; delete it there to free its space")
    return DONE


def _tell(name: str, change: tuple[Refs, Refs]) -> int:
    before, after = change
    stable = after.stable.version if after.stable else "none"
    if after == before:
        print(f"{name}: version {stable} is stable already; nothing changed")
        return DONE
    was = before.stable.version if before.stable else "none"
    ended = f"; canary {before.canary.version} ended" if before.canary else ""
    stays = f"version {stable} stays stable" if was == stable else f"version {stable} is now stable (was {was})"
    print(f"{name}: {stays}{ended}")
    return DONE
