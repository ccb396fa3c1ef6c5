"""What is too large for a record: results, inputs and uploads as objects, written once and never changed.

An object appears whole or not at all. Its key holds a token that nobody can guess and no two writers share, so a worker
that comes late writes beside its successor's object, never over it.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote, urlencode

from model_api.errors import JobsDown
from model_api.repository.files import sync_folder

_KEY = re.compile(r"[a-z]+/[A-Za-z0-9_-]{1,128}\.[0-9a-f]{32}")
ADDRESS_VALID_S = 3600
SECRET_BYTES = 32
# Callers' bytes don't fill the disk, which models' copies and logs share: so much stays free, of a small disk a
# twentieth.
SPARE_BYTES = 512 * 2**20


class ObjectGone(Exception):
    """No object of that key: it was dropped, or never written."""


class ObjectExists(Exception):
    """There is an object of that key already, and it stays as it is."""


class Objects(Protocol):
    """Any thread. All methods raise JobsDown where the store can't do it, and ObjectGone for what isn't there."""

    def writer(self, key: str, media_type: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A stream to write to; the object is there, and on disk, when the block ends without an exception. Raises
        ObjectExists then, if it was there before."""

    def adopt(self, key: str, file: Path, media_type: str) -> None:
        """Make an object of a local file, which may be gone afterwards."""

    def reader(self, key: str) -> contextlib.AbstractContextManager[BinaryIO]: ...

    def as_file(self, key: str, folder: Path) -> Path:
        """A file with the object's bytes, that nobody changes; in `folder`, where it isn't one itself."""

    def remove(self, key: str) -> None:
        """No error if it isn't there."""

    def address(self, key: str, media_type: str, file_name: str, now: float) -> str:
        """A URL, or a path on this server, that gives the object to whoever has it, for an hour."""

    def keys(self, kind: str) -> Iterator[str]:
        """All of that kind, in no order."""

    def old_keys(self, kind: str, older_than_s: float) -> Iterator[str]:
        """Keys of that kind whose objects are at least so old, for the search for orphans."""


def new_key(kind: str, owner_id: str) -> str:
    """A key that nobody else has or can guess. `kind` is a lower-case word."""
    return f"{kind}/{owner_id}.{secrets.token_hex(16)}"


def checked_key(key: str) -> str:
    """The same. Raises ObjectGone for what can't be a key."""
    if not _KEY.fullmatch(key):
        raise ObjectGone(key[:64])
    return key


def owner_of(key: str) -> str:
    """The id that the key was made for."""
    return key.partition("/")[2].partition(".")[0]


def put(objects: Objects, key: str, content: bytes, media_type: str = "application/json") -> None:
    with objects.writer(key, media_type) as stream:
        stream.write(content)


def read(objects: Objects, key: str) -> bytes:
    with objects.reader(key) as stream:
        return stream.read()


class Signer:
    """Signs paths of this server for a time. The secret is this folder's: all processes that share it agree."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def query(self, method: str, path: str, expires: int, **more: str) -> str:
        """The query string that makes `path` usable until `expires` (seconds since 1970)."""
        return urlencode(
            {"expires": str(expires), **more, "signature": self._signature(method, path, str(expires), more)}
        )

    def holds(self, method: str, path: str, now: float, query: dict[str, str]) -> bool:
        """Whether this signer made that query for this method and path, and it is still good. Any query may come."""
        more = {name: value for name, value in query.items() if name not in ("expires", "signature")}
        expires = query.get("expires", "")
        wanted = self._signature(method, path, expires, more)
        if not hmac.compare_digest(wanted.encode(), query.get("signature", "").encode("utf-8", "replace")):
            return False
        return expires.isascii() and expires.isdigit() and now < int(expires)

    def _signature(self, method: str, path: str, expires: str, more: dict[str, str]) -> str:
        text = "\n".join((method, path, expires, urlencode(sorted(more.items()))))
        return hmac.new(self._secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def read_secret(file: Path, prefix: str = "") -> bytes:
    """The secret in `file`, which is made if it isn't there: `prefix` and random bytes in base64. Two processes that
    make it agree. Raises JobsDown."""
    try:
        if not file.exists():
            aside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(prefix.encode() + base64.b64encode(secrets.token_bytes(SECRET_BYTES)))
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)
            aside.unlink()
        secret = file.read_bytes().strip()
    except OSError as error:
        raise JobsDown(f"the secret of the jobs can't be read ({error})") from error
    if len(secret) < SECRET_BYTES:
        raise JobsDown(f"{file} is too short for a secret")
    return secret


class FileObjects:
    """Objects as files in one folder of a local disk, readable by this user alone."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        """Raises JobsDown."""
        self._folder = folder
        self._signer = signer
        with _disk_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writer(self, key: str, media_type: str) -> Iterator[BinaryIO]:
        file = self.path(key)
        aside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        with _disk_errors():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stream = aside.open("xb")
        try:
            with stream:
                yield _Stream(stream, self._folder)  # type: ignore[misc]
                with _disk_errors():
                    stream.flush()
                    os.fsync(stream.fileno())
            self._name(aside, file)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def adopt(self, key: str, file: Path, media_type: str) -> None:
        """`file` must lie on the same disk, and has been synced."""
        kept = self.path(key)
        with _disk_errors():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._name(file, kept)
        with _disk_errors():
            file.unlink()

    def _name(self, file: Path, key_file: Path) -> None:
        """Let the object appear: in one step, and never over another."""
        try:
            with _disk_errors(FileExistsError):
                os.link(file, key_file)
        except FileExistsError:
            raise ObjectExists(key_file.name) from None
        with _disk_errors():
            sync_folder(key_file.parent)

    @contextlib.contextmanager
    def reader(self, key: str) -> Iterator[BinaryIO]:
        try:
            stream = self.path(key).open("rb")
        except FileNotFoundError as error:
            raise ObjectGone(key) from error
        except OSError as error:
            raise JobsDown(f"the disk of the jobs fails ({error.strerror})") from error
        with stream:
            yield stream

    def remove(self, key: str) -> None:
        file = self.path(key)
        with _disk_errors():
            file.unlink(missing_ok=True)

    def address(self, key: str, media_type: str, file_name: str, now: float) -> str:
        path = f"/jobs/objects/{quote(key)}"
        return f"{path}?{self._signer.query('GET', path, int(now) + ADDRESS_VALID_S, type=media_type, name=file_name)}"

    def keys(self, kind: str) -> Iterator[str]:
        yield from (f"{kind}/{file.name}" for file in (self._folder / kind).glob("[!.]*"))

    def old_keys(self, kind: str, older_than_s: float) -> Iterator[str]:
        """Leftovers of writers that died are removed on the way."""
        limit = time.time() - older_than_s
        for file in (self._folder / kind).glob("*"):
            with contextlib.suppress(OSError):  # removed by somebody else meanwhile
                if file.stat().st_mtime > limit:
                    continue
                if file.name.startswith("."):
                    file.unlink()
                else:
                    yield f"{kind}/{file.name}"

    def path(self, key: str) -> Path:
        """The file of `key`. Raises ObjectGone for what can't be a key."""
        return self._folder / checked_key(key)

    def as_file(self, key: str, folder: Path) -> Path:
        """The object itself: it is a file here."""
        return self.path(key)


class _Stream:
    """A file to write to, whose trouble with the disk is JobsDown; so is less than SPARE_BYTES free."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder

    def write(self, data: bytes) -> int:
        with _disk_errors():
            disk = shutil.disk_usage(self._folder)
            if disk.free - len(data) < min(SPARE_BYTES, disk.total // 20):
                raise JobsDown("the disk of the jobs is nearly full")
            return self._file.write(data)

    def flush(self) -> None:
        with _disk_errors():
            self._file.flush()

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def _disk_errors(*let_pass: type[OSError]) -> Iterator[None]:
    try:
        yield
    except let_pass:
        raise
    except OSError as error:
        raise JobsDown(f"the disk of the jobs fails ({error.strerror})") from error
