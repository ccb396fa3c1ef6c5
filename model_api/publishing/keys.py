"""Making and revoking keys: keys.json is replaced whole, one author at a time. Stdlib only, Python 3.9."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from model_api.errors import Refused
from model_api.publishing.author_lock import author_lock
from model_api.repository.files import write_aside
from model_api.repository.keys import ID_PATTERN, MAX_KEYS, TOKEN_PATTERN, Key, Keys, make_token
from model_api.repository.layout import Layout, mount_check

EVERYWHERE_S = 5
_NO_HASH = "0" * 64


def create(layout: Layout, key: Key) -> tuple[Key, str]:
    """Add a key like `key`, whose id and hash are made here: the one that was added, and the token, which nobody can
    tell a second time. Raises Refused, RepositoryError, OSError."""
    with _locked(layout):
        keys = read(layout)
        if len(keys.by_id) >= MAX_KEYS:
            raise Refused("", f"there are {len(keys.by_id)} keys already")
        key_id, token, sha256 = make_token()
        made = replace(key, id=key_id, sha256=sha256, created=time.time())
        _write(layout, Keys({**keys.by_id, key_id: made}))
    return made, token


def revoke(layout: Layout, given: str) -> tuple[Key, bool]:
    """Refuse a key everywhere from now on: its entry, and whether it was in the file. One that wasn't (the first key,
    which the environment brings) is noted as revoked. Raises Refused, RepositoryError, OSError."""
    found = TOKEN_PATTERN.fullmatch(given)
    key_id = found[1] if found else given
    if not ID_PATTERN.fullmatch(key_id):
        raise Refused("", f"{given[:40]!r} is no key's id: mk_ and 4 to 32 of a-z 0-9; scripts/keys list shows them")
    with _locked(layout):
        keys = read(layout)
        key = keys.by_id.get(key_id)
        if key is not None and key.revoked is not None:
            return key, True
        entry = key or Key(key_id, _NO_HASH, "not from this file", frozenset({"predict"}))
        entry = replace(entry, revoked=time.time())
        _write(layout, Keys({**keys.by_id, key_id: entry}))
    return entry, key is not None


def read(layout: Layout) -> Keys:
    """What there is; nothing where there is no file yet. A file that is damaged is never written over. Raises Refused,
    RepositoryUnavailable, OSError."""
    mount_check(layout.root)
    try:
        keys = Keys.read(layout.keys)
    except FileNotFoundError:
        return Keys({})
    if keys.faults:
        raise Refused(layout.keys.name, f"{keys.faults[0]}; mend it, or take the entry out")
    return keys


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    mount_check(layout.root)
    with author_lock(layout.keys_lock, layout.keys.name):
        yield


def _write(layout: Layout, keys: Keys) -> None:
    write_aside(layout.keys, keys.to_json())
