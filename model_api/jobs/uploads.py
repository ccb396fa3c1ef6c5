"""Bytes that come before a job: asked for, sent to a signed address, checked, and kept for the jobs that use them.

Four objects are all that is known of an upload: what was asked for, its bytes, what they turned out to be, and the job
that they started. Each is written once, so a crash between two of them leaves one of as many states.
"""

import codecs
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from model_api.errors import InvalidInput, UnknownUpload, UploadConflict, UploadExpired, UploadRefused
from model_api.jobs.objects import ObjectExists, ObjectGone, Objects, put, read

ASKED, BYTES, ACCEPTED, STARTED = "asked", "uploads", "accepted", "started"
VALID_S = 3600  # for so long the address is good
KEEP_S = 86400.0  # an upload that no job waits for
CHUNK_BYTES = 1 << 20
SNIFF_BYTES = 1 << 16
CSV, JSON_LINES = "text/csv", "application/jsonl"
MP4, QUICKTIME, AVI = "video/mp4", "video/quicktime", "video/x-msvideo"
# What may be sent, and what its bytes must look like. The name of a file says nothing.
TYPES: Mapping[str, str] = {
    CSV: "text",
    JSON_LINES: "text",
    "application/x-ndjson": "text",
    MP4: "mp4",
    QUICKTIME: "mp4",
    AVI: "avi",
}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One upload. Times are seconds since 1970 by the store's clock."""

    id: str
    owner: str
    content_type: str
    size: int | None  # as asked for; None: whatever comes, up to the limit
    sha256: str | None
    expires: float
    job: Mapping[str, Any] | None  # to start when the bytes are there
    file_name: str = ""  # as its sender calls it; shown, and nothing more
    purpose: str = ""  # "batch" for what OpenAI's protocol calls a file
    received_bytes: int | None = None  # once it is accepted
    received_sha256: str | None = None

    @property
    def key(self) -> str:
        return upload_key(self.id)


@dataclass(frozen=True)
class Address:
    """Where to send the bytes: with `headers` by PUT, or after `fields` in a form by POST."""

    method: str
    url: str
    headers: Mapping[str, str] | None = None
    fields: Mapping[str, str] | None = None


class Uploads:
    """Any thread. All methods raise JobsDown where the store can't do it."""

    def __init__(self, objects: Objects, now: Callable[[], float], *, max_bytes: int) -> None:
        self._objects = objects
        self._now = now
        self._max_bytes = max_bytes

    def ask(
        self,
        owner: str,
        content_type: str,
        size: int | None,
        sha256: str | None,
        job: Mapping[str, Any] | None,
        *,
        file_name: str = "",
        purpose: str = "",
    ) -> Upload:
        """Raises InvalidInput for what would not be accepted."""
        if content_type not in TYPES:
            raise InvalidInput(f"must be one of {', '.join(TYPES)}", "/content_type")
        if size is not None and not 0 < size <= self._max_bytes:
            raise InvalidInput(f"must be between 1 and {self._max_bytes} bytes", "/size")
        upload = Upload(
            id=secrets.token_hex(32),
            owner=owner,
            content_type=content_type,
            size=size,
            sha256=sha256,
            expires=self._now() + VALID_S,
            job=job,
            file_name=file_name,
            purpose=purpose,
        )
        put(self._objects, _key(ASKED, upload.id), orjson.dumps(upload))
        return upload

    def get(self, upload_id: str, owner: str) -> Upload:
        """An upload whose bytes were accepted, at the latest now: a bucket's word that they came may take a while.

        Raises UnknownUpload, UploadRefused, UploadConflict where they haven't come, and UploadExpired.
        """
        upload = self.asked(upload_id)
        if upload.owner != owner:
            raise UnknownUpload(_unknown(upload_id))
        accepted = self._accepted(upload)
        if accepted is not None:
            return accepted
        try:
            return self._accept(upload, self._look_at(upload))
        except UploadConflict:
            if self._now() >= upload.expires:
                raise UploadExpired(f"upload {upload_id[:16]} didn't come in time: ask for another") from None
            raise

    def receive(self, upload_id: str, announced: int | None, chunks: Iterable[bytes]) -> Upload:
        """Take the bytes in; the upload as it is then. Memory doesn't grow with them.

        Raises UnknownUpload, UploadExpired, UploadConflict where they came already, UploadRefused.
        """
        upload = self.asked(upload_id)
        if self._now() >= upload.expires:
            raise UploadExpired(f"upload {upload_id[:16]} has expired: ask for another")
        limit = self._max_bytes if upload.size is None else upload.size
        if announced is not None and (announced > limit or (upload.size is not None and announced != upload.size)):
            raise UploadRefused(f"{announced} bytes were announced, {_wanted(upload, limit)}")
        if self._accepted(upload) is not None:
            raise UploadConflict(f"upload {upload_id[:16]} came already")
        # Bytes that came and weren't accepted before the process died are taken again.
        try:
            with self._objects.writer(upload.key, upload.content_type) as stream:
                came = _copy(upload, chunks, stream, limit)
                if announced is not None and came.n_bytes != announced:
                    raise UploadRefused(f"{came.n_bytes} bytes came of {announced} that were announced")
        except ObjectExists:
            self.arrived(upload_id)  # whoever sent it may have died before it was accepted
            raise UploadConflict(f"upload {upload_id[:16]} came already") from None
        return self._accept(upload, came)

    def arrived(self, upload_id: str) -> Upload:
        """What follows when the bytes are there; told twice, it does no more. The upload as it is then.

        Raises UnknownUpload, UploadRefused; then the bytes are gone.
        """
        upload = self.asked(upload_id)
        accepted = self._accepted(upload)
        if accepted is None:
            accepted = self._accept(upload, self._look_at(upload))
        return accepted

    def accepted(self, owner: str, purpose: str) -> list[Upload]:
        """All of that owner whose bytes were accepted, newest first. Reads each of them."""
        found = []
        for key in self._objects.keys(ACCEPTED):
            with contextlib.suppress(ObjectGone):
                found.append(Upload(**orjson.loads(read(self._objects, key))))
        mine = [upload for upload in found if (upload.owner, upload.purpose) == (owner, purpose)]
        return sorted(mine, key=lambda upload: (-upload.expires, upload.id))

    def remove(self, upload_id: str, owner: str) -> None:
        """Forget it and its bytes; a job that works on it fails. Raises UnknownUpload."""
        if self.asked(upload_id).owner != owner:
            raise UnknownUpload(_unknown(upload_id))
        for kind in (BYTES, ACCEPTED, ASKED):
            self._objects.remove(_key(kind, upload_id))

    def drop_old(self, is_used: Callable[[str], bool]) -> int:
        """Remove uploads that are a day old and that no job waits for; how many."""
        dropped = 0
        for key in list(self._objects.old_keys(ASKED, KEEP_S)):
            upload_id = key.partition("/")[2].partition(".")[0]
            if is_used(upload_id):
                continue
            for kind in (BYTES, ACCEPTED, STARTED, ASKED):
                self._objects.remove(_key(kind, upload_id))
            dropped += 1
        return dropped

    def asked(self, upload_id: str) -> Upload:
        """What was asked for, whoever did. Raises UnknownUpload."""
        try:
            return Upload(**orjson.loads(read(self._objects, _key(ASKED, upload_id))))
        except ObjectGone:
            raise UnknownUpload(_unknown(upload_id)) from None

    def _accepted(self, upload: Upload) -> Upload | None:
        with contextlib.suppress(ObjectGone):
            return Upload(**orjson.loads(read(self._objects, _key(ACCEPTED, upload.id))))
        return None

    def _accept(self, upload: Upload, came: "_Came") -> Upload:
        fault = _fault(upload, came, self._max_bytes)
        if fault is not None:
            self._objects.remove(upload.key)
            raise UploadRefused(fault)
        accepted = Upload(**{**vars(upload), "received_bytes": came.n_bytes, "received_sha256": came.sha256})
        with contextlib.suppress(ObjectExists):  # told twice at once
            put(self._objects, _key(ACCEPTED, upload.id), orjson.dumps(accepted))
        return accepted

    def _look_at(self, upload: Upload) -> "_Came":
        came = _Came()
        try:
            with self._objects.reader(upload.key) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    came.add(chunk)
        except ObjectGone:
            raise UploadConflict(f"the bytes of upload {upload.id[:16]} haven't come yet") from None
        return came


class _Came:
    """What is known of bytes that came: how many, their sha256, and the first of them."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self.head = b""
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, chunk: bytes) -> None:
        self.n_bytes += len(chunk)
        self._digest.update(chunk)
        if len(self.head) < SNIFF_BYTES:
            self.head += chunk[: SNIFF_BYTES - len(self.head)]


def sniffed(head: bytes) -> str:
    """What the first bytes of a file say it is: mp4 (QuickTime too), avi, text, or unknown."""
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # whose last character may be cut
    except UnicodeDecodeError:
        return "unknown"
    return "unknown" if b"\0" in head or not head else "text"


def upload_key(upload_id: str) -> str:
    """Where the bytes of an upload lie among the objects."""
    return _key(BYTES, upload_id)


def started_key(upload_id: str) -> str:
    """Where the id of the job lies that an upload started."""
    return _key(STARTED, upload_id)


def _key(kind: str, upload_id: str) -> str:
    return f"{kind}/{upload_id}.{upload_id[:32]}"


def _unknown(upload_id: str) -> str:
    return f"no upload {upload_id[:16]!r} was asked for here"


def _wanted(upload: Upload, limit: int) -> str:
    return f"exactly {limit} were asked for" if upload.size is not None else f"at most {limit} are accepted"


def _copy(upload: Upload, chunks: Iterable[bytes], stream: BinaryIO, limit: int) -> _Came:
    """Raises UploadRefused as soon as too much came, or when too little did."""
    came = _Came()
    for chunk in chunks:
        if came.n_bytes + len(chunk) > limit:
            raise UploadRefused(f"more than {limit} bytes came, {_wanted(upload, limit)}")
        came.add(chunk)
        stream.write(chunk)
    if upload.size is not None and came.n_bytes != upload.size:
        raise UploadRefused(f"{came.n_bytes} bytes came, {_wanted(upload, limit)}")
    return came


def _fault(upload: Upload, came: _Came, max_bytes: int) -> str | None:
    """Why the bytes can't be accepted, by what they are; None where they can."""
    limit = max_bytes if upload.size is None else upload.size
    if came.n_bytes > limit or (upload.size is not None and came.n_bytes != limit):
        return f"{came.n_bytes} bytes came, {_wanted(upload, limit)}"
    if upload.sha256 is not None and came.sha256 != upload.sha256:
        return "the bytes don't have the sha256 that was announced"
    found = sniffed(came.head)
    if found != TYPES[upload.content_type]:
        return f"the bytes are not {upload.content_type}: they look like {found}"
    return None
