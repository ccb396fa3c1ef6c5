"""`keys create | list | revoke`: who may call. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from typing import Callable, TypeVar

from model_api.errors import Refused
from model_api.publishing import keys
from model_api.publishing.commands.arguments import add_store_options
from model_api.repository.keys import (
    SCOPES,
    Key,
    Rate,
    checked_models,
    checked_name,
    checked_scopes,
    moment,
    parse_moment,
)
from model_api.repository.layout import Layout

_Checked = TypeVar("_Checked")
_SPAN = re.compile(r"([1-9]\d{0,5})([hd])")
_SPAN_S = {"h": 3600, "d": 86400}


def add_arguments(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(dest="action", required=True, metavar="create | list | revoke")
    create = verbs.add_parser("create", help="make a key, and show it, once", allow_abbrev=False)
    create.add_argument("--name", metavar="NAME", required=True, help="whose it is, or what for; for people")
    told = "; ".join(f"{name}: {what}" for name, what in SCOPES.items())
    create.add_argument("--scope", metavar="SCOPES", action="append", required=True, help=f"may be repeated. {told}")
    create.add_argument("--models", metavar="NAMES", action="append", default=[], help="default: all models")
    create.add_argument("--expires", metavar="WHEN", help="90d, 12h, 2027-01-01 or 2027-01-01T12:00Z; default: never")
    create.add_argument(
        "--rate",
        metavar="RATE",
        action="append",
        default=[],
        help="for each model by itself: 100/minute, or '20000 tokens/hour'; may be repeated; default: no limit",
    )
    listing = verbs.add_parser("list", help="show the keys, none of their secrets", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke = verbs.add_parser(
        "revoke", help=f"refuse a key on every instance, within {keys.EVERYWHERE_S} s", allow_abbrev=False
    )
    revoke.add_argument("id", metavar="mk_ID")
    for verb in (create, listing, revoke):
        add_store_options(verb, again=True)


def run(parsed: argparse.Namespace) -> int:
    """Raises Refused, RepositoryError, OSError."""
    return {"create": _create, "list": _list, "revoke": _revoke}[parsed.action](parsed)


def _create(parsed: argparse.Namespace) -> int:
    models = [name for given in parsed.models for name in _split(given)]
    wanted = Key(
        id="",
        sha256="",
        name=_checked(checked_name, parsed.name.strip()),
        scopes=_checked(checked_scopes, [scope for given in parsed.scope for scope in _split(given)]),
        models=_checked(checked_models, models) if parsed.models else None,
        expires=None if parsed.expires is None else _checked(_expiry, parsed.expires),
        rates=tuple(_checked(Rate.parse, text.strip()) for text in parsed.rate),
    )
    made, token = keys.create(Layout(parsed.root), wanted)
    print(token)
    until = "for ever" if made.expires is None else f"until {moment(made.expires)}"
    print(
        f"{made.id} may {', '.join(sorted(made.scopes))} {until}. The key is shown this once: it is kept nowhere."
        f" Instances know it within {keys.EVERYWHERE_S} s",
        file=sys.stderr,
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    found = list(keys.read(Layout(parsed.root)).by_id.values())
    now = time.time()
    if parsed.json:
        shown = [{**key.to_json(), "state": _state(key, now)} for key in found]
        for entry in shown:
            del entry["sha256"]
        print(json.dumps({"keys": shown}, indent=1, ensure_ascii=False))
        return 0
    for key in found:
        models = "all models" if key.models is None else ",".join(sorted(key.models))
        limits = ", ".join(map(str, key.rates)) or "no limit"
        print(f"{key.id}  {_state(key, now)}  {key.name}  {','.join(sorted(key.scopes))}  {models}  {limits}")
    if not found:
        print("there are no keys; scripts/keys create makes one", file=sys.stderr)
    return 0


def _revoke(parsed: argparse.Namespace) -> int:
    key, known = keys.revoke(Layout(parsed.root), parsed.id)
    note = "" if known else ", though it isn't one of this file: is the id right?"
    print(f"{key.id} is refused by every instance within {keys.EVERYWHERE_S} s{note}")
    return 0


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {moment(key.revoked)}"
    if key.expires is None:
        return "good"
    return f"{'expired' if key.expires <= now else 'good until'} {moment(key.expires)}"


def _expiry(text: str) -> float:
    """Raises ValueError."""
    span = _SPAN.fullmatch(text)
    until = time.time() + int(span[1]) * _SPAN_S[span[2]] if span else parse_moment(text)
    if until <= time.time():
        raise ValueError(f"{text!r} is over already")
    return until


def _split(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _checked(check: Callable[..., _Checked], given: object) -> _Checked:
    try:
        return check(given)
    except ValueError as error:
        raise Refused("", str(error)) from None
