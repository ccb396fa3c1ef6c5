"""The keys that are good now: keys.json as it was read last, by a thread that looks every few seconds.

A file that is damaged, unreadable or gone changes nothing: the last good one is kept, also over a restart (in the local
store), and /readyz, the metrics and the log say so. A request only looks into a dict.
"""

import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_api.errors import ModelApiError
from model_api.repository.bounded_files import read_bounded
from model_api.repository.files import write_aside
from model_api.repository.keys import MAX_BYTES, Key, Keys
from model_api.repository.layout import Layout, mount_check

log = logging.getLogger(__name__)

POLL_S = 3.0  # a revocation holds everywhere within five seconds; each look is billed (docs/deploy.md)
HANG_S = 5.0
KEPT_NAME = "keys.json"  # behind a mark of the store that it is of


@dataclass(frozen=True)
class KeysState:
    """What is known of keys.json. `known`: some version of it was read, however long ago. `age_s` since the last look
    that found a good one, None if none did."""

    known: bool
    detail: str
    age_s: float | None


class KeyRing:
    """`start` and `stop` once each; the rest on any thread, without waiting."""

    def __init__(
        self,
        root: Path,
        store: Path,
        poll_s: float,
        *,
        first: Key | None = None,
        required: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`store` is a folder of this instance's own; `first` is a key that is good unless the file says otherwise;
        `required`: a caller needs a key."""
        self._layout = Layout(root)
        mark = hashlib.blake2b(str(root).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        self._kept = store / f"{mark}.{KEPT_NAME}"
        self._poll_s = min(poll_s, POLL_S)
        self._first = {} if first is None else {first.id: first}
        self._required = required
        self._clock = clock
        self._keys: Mapping[str, Key] = self._first
        self._bytes: bytes | None = None
        self._failure: str | None = "not looked at yet"
        self._told: str | None = None
        self._began_at: float | None = None
        self._good_at: float | None = None
        self._known = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """What this instance knew last counts when this returns; the file is looked at from then on."""
        self._recall()
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it isn't waited for, since it may be hanging."""
        self._stop.set()

    def get(self, key_id: str) -> Key | None:
        """The key of that id, good or not."""
        return self._keys.get(key_id)

    def now(self) -> float:
        """In seconds since 1970."""
        return self._clock()

    def state(self) -> KeysState:
        now = time.monotonic()
        age_s = None if self._good_at is None else round(now - self._good_at, 3)
        began_at = self._began_at
        if began_at is not None and now - began_at > HANG_S:
            return KeysState(self._known, f"no answer for {now - began_at:.0f} s", age_s)
        return KeysState(self._known, self._failure or "ok", age_s)

    def look(self) -> None:
        """Read the file, and take it if it is good. On the ring's thread (and in tests)."""
        self._began_at = time.monotonic()
        try:
            self._take(self._read())
            failure = None
        except FileNotFoundError:
            failure = "there is no keys.json"
        except (ModelApiError, OSError) as error:
            failure = str(error)
        except Exception:
            log.exception("looking at the keys failed")
            failure = "looking at the keys failed; see the log"
        self._began_at = None
        self._failure = failure
        if failure is None:
            self._good_at = time.monotonic()
        self._tell(failure)

    def _read(self) -> bytes:
        """Raises FileNotFoundError only where the store is there without the file."""
        try:
            return read_bounded(self._layout.keys, MAX_BYTES)
        except FileNotFoundError:
            mount_check(self._layout.root)
            raise

    def _take(self, data: bytes) -> None:
        if data == self._bytes:
            return
        keys = Keys.from_bytes(data)
        before, self._bytes, self._known = self._bytes, data, True
        self._keys = {**self._first, **keys.by_id}
        for fault in keys.faults:
            log.error("an entry of keys.json is no key", extra={"fields": {"reason": fault}})
        log.info("keys are known", extra={"fields": {"keys": len(keys.by_id), "first_look": before is None}})
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            write_aside(self._kept, data.decode("utf-8-sig"), owner=f"{os.getpid()}.")
        except OSError as error:
            log.warning("the keys can't be kept for a restart", extra={"fields": {"reason": str(error)}})

    def _recall(self) -> None:
        try:
            keys = Keys.read(self._kept)
        except (ModelApiError, OSError):
            return
        self._keys, self._known = {**self._first, **keys.by_id}, True

    def _tell(self, failure: str | None) -> None:
        """Once per outage. Where keys aren't asked for and there never was a file, nothing is amiss."""
        if failure is None and self._told is not None:
            log.info("keys.json can be read again")
        elif failure is not None and self._told is None and self._known:
            log.error("keys.json can't be read; the last good one counts", extra={"fields": {"reason": failure}})
        elif failure is not None and self._told is None and self._required:
            log.error("keys are asked for, and none is known", extra={"fields": {"reason": failure}})
        self._told = failure

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._poll_s * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, no secret
