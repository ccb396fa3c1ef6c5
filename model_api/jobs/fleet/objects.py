"""Objects in an S3 bucket."""

import contextlib
import io
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from botocore.exceptions import ClientError

from model_api.jobs.fleet.clients import client, reason, told_as_down
from model_api.jobs.objects import ADDRESS_VALID_S, ObjectExists, ObjectGone, checked_key

WHAT = "the bucket of the jobs"
CLOCK_ERROR_S = 86400.0
SPOOL_BYTES = 8 << 20  # of an object that is kept in memory on its way
_ABSENT = ("NoSuchKey", "404", "NotFound")
_EXISTS = ("PreconditionFailed", "ConditionalRequestConflict", "412")


class S3Objects:
    """`Objects` in a bucket, which must be in the region of the environment: addresses are signed for that."""

    def __init__(self, bucket: str, **options: Any) -> None:
        """Connects to nothing yet. `options` are boto3's."""
        self._bucket = bucket
        # Left alone, boto3 signs addresses with the old signature, for the global endpoint.
        self._client = client("s3", signature_version="s3v4", s3={"us_east_1_regional_endpoint": "regional"}, **options)

    @contextlib.contextmanager
    def writer(self, key: str, media_type: str) -> Iterator[BinaryIO]:
        checked_key(key)
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as stream:
            yield cast(BinaryIO, stream)
            stream.seek(0)
            self._put(key, cast(BinaryIO, stream), media_type)

    @contextlib.contextmanager
    def reader(self, key: str) -> Iterator[BinaryIO]:
        checked_key(key)
        with told_as_down(WHAT):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            except ClientError as error:
                if reason(error) in _ABSENT:
                    raise ObjectGone(key) from None
                raise
        # Left alone, it iterates over blocks, where a file iterates over lines.
        with contextlib.closing(body), told_as_down(WHAT):
            yield io.BufferedReader(body)

    def adopt(self, key: str, file: Path, media_type: str) -> None:
        with file.open("rb") as stream:
            self._put(key, stream, media_type)
        file.unlink()

    def as_file(self, key: str, folder: Path) -> Path:
        """Downloaded into `folder`, once."""
        file = folder / key.replace("/", "-")
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = file.with_name(f"{file.name}.{secrets.token_hex(8)}")  # two may download it at once
            with self.reader(key) as stream, aside.open("wb") as copy:
                while chunk := stream.read(1 << 20):
                    copy.write(chunk)
            aside.replace(file)
        return file

    def remove(self, key: str) -> None:
        with told_as_down(WHAT):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def address(self, key: str, media_type: str, file_name: str, now: float) -> str:
        named = f"attachment; filename*=UTF-8''{quote(file_name)}"
        wanted = {
            "Bucket": self._bucket,
            "Key": checked_key(key),
            "ResponseContentType": media_type,
            "ResponseContentDisposition": named,
        }
        with told_as_down(WHAT):
            return str(self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=ADDRESS_VALID_S))

    def upload_address(self, key: str, media_type: str, size: int | None, valid_s: int) -> tuple[str, dict[str, str]]:
        """Where a program PUTs an object, once and of exactly that size, and the headers that are signed with it."""
        headers = {"Content-Type": media_type, "If-None-Match": "*"}
        wanted: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": checked_key(key),
            "ContentType": media_type,
            "IfNoneMatch": "*",
        }
        if size is not None:
            wanted["ContentLength"] = size
            headers["Content-Length"] = str(size)
        with told_as_down(WHAT):
            return str(self._client.generate_presigned_url("put_object", Params=wanted, ExpiresIn=valid_s)), headers

    def upload_form(
        self, key: str, media_type: str, size: int | None, max_bytes: int, valid_s: int
    ) -> tuple[str, dict[str, str]]:
        """Where a browser's form POSTs an object of exactly that size, or up to `max_bytes`; and the form's fields.

        What came before under that key would be replaced: a policy has no condition against it. The application accepts
        the first that it looks at, and no other.
        """
        fields = {"Content-Type": media_type, "success_action_status": "201"}
        low, high = (1, max_bytes) if size is None else (size, size)
        conditions = [{name: value} for name, value in fields.items()]
        with told_as_down(WHAT):
            made = self._client.generate_presigned_post(
                self._bucket,
                checked_key(key),
                Fields=dict(fields),
                Conditions=[*conditions, ["content-length-range", low, high]],
                ExpiresIn=valid_s,
            )
        return str(made["url"]), dict(made["fields"])

    def keys(self, kind: str) -> Iterator[str]:
        yield from self.old_keys(kind, -CLOCK_ERROR_S)

    def old_keys(self, kind: str, older_than_s: float) -> Iterator[str]:
        limit = time.time() - older_than_s
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{kind}/")
        with told_as_down(WHAT):
            for page in pages:
                for found in page.get("Contents", []):
                    if found["LastModified"].timestamp() <= limit:
                        yield found["Key"]

    def _put(self, key: str, stream: BinaryIO, media_type: str) -> None:
        with told_as_down(WHAT):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=key, Body=stream, ContentType=media_type, IfNoneMatch="*"
                )
            except ClientError as error:
                if reason(error) in _EXISTS:
                    raise ObjectExists(key) from None
                raise
