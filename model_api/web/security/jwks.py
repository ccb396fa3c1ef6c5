"""The public keys of whoever signs tokens: a JWKS, of a file or an address, read by a thread of its own.

The last good one counts. An unknown key id makes the thread look again, though not more often than every ten seconds.
"""

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.errors import KeysUnknown, ModelApiError, Unauthenticated
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import parse_json

log = logging.getLogger(__name__)

MAX_BYTES = 2**20
TIMEOUT_S = 10.0
LOOK_S = 300.0
AGAIN_S = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Who signs is said by the settings, not by whoever answers there."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Jwks:
    """`start` and `stop` once each; `key` on any thread, without waiting."""

    def __init__(self, source: str, on_change: Callable[[], None], again_s: float = AGAIN_S) -> None:
        """`source` is a file's path or an address; `on_change` is called on the thread, when other keys count."""
        self._source = source
        self._on_change = on_change
        self._again_s = again_s
        self._data: bytes | None = None
        self._keys: Mapping[tuple[str | None, str], Any] | None = None
        self._failure = "not looked at yet"
        self._told = False
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jwks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it isn't waited for."""
        self._stopping.set()
        self._wanted.set()

    def key(self, key_id: Any, algorithm: str) -> Any:
        """The key of that id for that algorithm; of a token that names none, the only one for it. Raises
        Unauthenticated, and KeysUnknown where no key could ever be read."""
        if self._keys is None:
            raise KeysUnknown(f"no token can be verified: {self._failure}")
        if key_id is None:
            fit = [key for (_, name), key in self._keys.items() if name == algorithm]
            if len(fit) == 1:
                return fit[0]
        elif isinstance(key_id, str) and (key_id, algorithm) in self._keys:
            return self._keys[key_id, algorithm]
        self._wanted.set()
        raise Unauthenticated("nobody known signed this token")

    def look(self) -> None:
        """Read it, and take it if it is good. On the thread (and in tests)."""
        try:
            data = self._read()
            if data != self._data:
                self._keys = _parsed(data)
                self._data = data
                self._on_change()
                log.info("token signers are known", extra={"fields": {"keys": len(self._keys)}})
            self._told = False
        except (ModelApiError, OSError, ValueError) as error:
            self._failure = f"the JWKS can't be read ({type(error).__name__})"
            if not self._told:
                self._told = True
                log.error("the JWKS can't be read", extra={"fields": {"reason": str(error)[:200]}})

    def _read(self) -> bytes:
        """Raises OSError, Refused, ValueError."""
        if not self._source.startswith(("https://", "http://")):
            return read_bounded(Path(self._source), MAX_BYTES)
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(self._source, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError("too long")
        return data

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            try:
                self.look()
            except Exception:
                log.exception("looking at the JWKS failed")
            self._stopping.wait(self._again_s)
            self._wanted.wait(LOOK_S if self._keys is not None else 0)


def _parsed(data: bytes) -> Mapping[tuple[str | None, str], Any]:
    """Public keys by id and algorithm; secrets (kty oct), keys for encryption and unknown kinds are none. Raises
    ValueError where nothing is left."""
    import jwt

    document = parse_json(data, MAX_BYTES)
    entries = document.get("keys") if isinstance(document, Mapping) else None
    found: dict[tuple[str | None, str], Any] = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        if not isinstance(entry, Mapping) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(dict(entry))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        key_id = entry.get("kid")
        found[key_id if isinstance(key_id, str) else f"\0{number}", str(key.algorithm_name)] = key
    if not found:
        raise ValueError("holds no public key for signatures")
    return found
