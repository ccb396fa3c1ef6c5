"""The authors' commands, each of which scripts/ has by its name.

Stdlib only, Python 3.9: an author's laptop, or the far side of --to, needs nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from model_api.errors import ModelApiError, Refused
from model_api.publishing import ssh as remote
from model_api.publishing.commands import changing, keeping, looking
from model_api.publishing.commands import keys as keys_command
from model_api.publishing.commands import models as models_command
from model_api.publishing.commands import publish as publish_command
from model_api.publishing.commands.arguments import EXIT_CODES, add_store_options
from model_api.publishing.terms import this_author
from model_api.repository.environment import efs_root, status_dir
from model_api.repository.layout import Layout

FAILED, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130

_OF_THE_NEAR_SIDE = ("--to", "--ssh", "--python")
_MAY_BE_EMPTY = ("-m", "--message", "--author")
_Run = Callable[[argparse.Namespace], int]
_Add = Callable[[argparse.ArgumentParser], None]
VERBS: Mapping[str, tuple[str, _Add, _Run]] = {
    "publish": (
        "Publish a model folder as the next version, and let it serve.",
        publish_command.add_arguments,
        publish_command.run,
    ),
    "promote": (
        "Let a version serve as the stable one; ends a canary.",
        changing.add_promote_arguments,
        changing.run_promote,
    ),
    "rollback": (
        "End the canary; without one, go back to the last version that is known to be good.",
        changing.add_rollback_arguments,
        changing.run_rollback,
    ),
    "retire": (
        "Move a version that no ref names and no instance serves to .trash. Its number stays taken.",
        changing.add_retire_arguments,
        changing.run_retire,
    ),
    "delete": ("End a model on every instance.", changing.add_delete_arguments, changing.run_delete),
    "rename": (
        "Give a model another name; all of it goes along.",
        keeping.add_naming_arguments,
        keeping.run_rename,
    ),
    "copy": ("Make a second model of what a model serves.", keeping.add_naming_arguments, keeping.run_copy),
    "models": (
        "Show what is published, which instances serve it, and what is refused.",
        models_command.add_arguments,
        models_command.run,
    ),
    "show": ("Show a version: its options, probes, files and sizes.", looking.add_show_arguments, looking.run_show),
    "history": (
        "Show who changed what serves, and when.",
        looking.add_history_arguments,
        looking.run_history,
    ),
    "keys": ("Make, show and revoke the keys of callers.", keys_command.add_arguments, keys_command.run),
    "gc": ("Free the space of what was retired, deleted or broke off.", keeping.add_gc_arguments, keeping.run_gc),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Failures are one line on standard error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    _print_any_name()
    if _is_empty_somewhere(arguments):
        return _complain(arguments[0] or "model_api", "an argument is empty: a variable that isn't set?", USAGE)
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.to and parsed.verb != "publish":
            return remote.run_there(remote.Target.parse(parsed.to, parsed.ssh, parsed.python), _without_to(arguments))
        parsed.root = Path(parsed.root).absolute() if parsed.root else efs_root()
        parsed.status_dir = status_dir() or Layout(parsed.root).statuses
        run: _Run = parsed.run
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


def _print_any_name() -> None:
    """Files have names in any alphabet, or in none: one that this output can't show is shown escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _is_empty_somewhere(arguments: Sequence[str]) -> bool:
    """`--to "$HOST"` without a HOST must not mean the store here, nor `publish "$DIR"` the current folder."""
    before = ["", *arguments]
    return any(
        (argument == "" and option not in _MAY_BE_EMPTY)
        or (argument[:2] == "--" and argument[-1:] == "=" and argument[:-1] not in _MAY_BE_EMPTY)
        for option, argument in zip(before, arguments)
    )


def _complain(verb: str, message: str, code: int) -> int:
    print(f"{verb}: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _without_to(arguments: Sequence[str]) -> list[str]:
    """The same command for the far side, where the store is simply there."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in _OF_THE_NEAR_SIDE:
            kept.append(argument)
        skip = not skip and argument in _OF_THE_NEAR_SIDE
    return [*kept, "--author", this_author()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model_api", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (what, add_arguments, run) in VERBS.items():
        command = verbs.add_parser(
            name,
            help=what,
            description=what,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        add_store_options(command)
        add_arguments(command)
    return parser
