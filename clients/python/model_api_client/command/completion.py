"""Completion for shells. Each hands over its line up to the cursor, and is given one candidate per line."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from model_api_client.client import Client
from model_api_client.errors import ModelApiError

ASK_TIMEOUT_S = 2.0
LINE = "--complete-line"
SCRIPTS = {
    "bash": """_model_api() {
  local IFS=$'\\n'
  COMPREPLY=($(model-api --complete-line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o default -F _model_api model-api
""",
    "zsh": """#compdef model-api
_model_api() {
  local -a found
  found=("${(@f)$(model-api --complete-line "${BUFFER[1,CURSOR]}" 2>/dev/null)}")
  [ -n "${found[1]}" ] && compadd -a found || _files
}
compdef _model_api model-api
""",
    "fish": """complete -c model-api -a '(model-api --complete-line (commandline -cp | string collect) 2>/dev/null)'
""",
}


def candidates(parser: argparse.ArgumentParser, line: str) -> list[str]:
    """What may stand at the end of `line`, which begins with the command's name."""
    words = _words(line)[1:] or [""]
    *before, current = words
    found = _possible(parser, before, current)
    return sorted({word for word in found if word.startswith(current)})


def _words(line: str) -> list[str]:
    """The last one is what is being written, "" after a blank."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that isn't closed yet
        words = line.split()
    return [*words, ""] if not words or line[-1:].isspace() else words


def _possible(parser: argparse.ArgumentParser, before: list[str], current: str) -> Iterable[str]:
    url = _value_of(before, "--url")
    waiting: argparse.Action | None = None
    for word in before:
        if waiting is not None:
            waiting = None
            continue
        below = _commands(parser).get(word)
        if below is not None:
            parser = below
            continue
        option = parser._option_string_actions.get(word)
        if option is not None and option.nargs != 0:
            waiting = option
    if waiting is not None:
        return _values(waiting, url)
    if current.startswith("-"):
        return parser._option_string_actions
    named = [value for action in _positionals(parser) for value in _values(action, url)]
    return [*_commands(parser), *named]


def _commands(parser: argparse.ArgumentParser) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    plain = [action for action in parser._actions if not action.option_strings]
    return [action for action in plain if not isinstance(action, argparse._SubParsersAction)]


def _values(action: argparse.Action, url: str | None) -> Iterable[str]:
    if action.choices is not None:
        return map(str, action.choices)
    if action.dest not in ("model", "name", "job"):
        return ()
    with suppress(ModelApiError, ValueError), Client(url, timeout_s=ASK_TIMEOUT_S, retries=0) as client:
        if action.dest == "job":
            return [job.id for job in _first(client.jobs.list(page_size=50), 50)]
        return [model.name for model in client.models()]
    return ()


def _first(items: Iterable[Any], number: int) -> list[Any]:
    return [item for item, _ in zip(items, range(number))]


def _value_of(words: list[str], option: str) -> str | None:
    for i, word in enumerate(words):
        if word == option and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None
