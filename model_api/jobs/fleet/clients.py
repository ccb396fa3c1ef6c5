"""Clients of AWS as jobs need them: short waits, and trouble that is told as JobsDown."""

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from model_api.errors import JobsDown

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10


def client(service: str, **options: Any) -> Any:
    """A client of that service. Region and credentials are the environment's, on an instance its role's.

    Nothing is tried again behind the caller's back: a conditional write that was taken, and whose answer was lost,
    would be refused the second time, as if somebody else had written.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=50,
        signature_version=options.pop("signature_version", None),
        s3=options.pop("s3", None),
    )
    with told_as_down(service):  # no region, say
        return boto3.client(service, config=config, **options)


@contextlib.contextmanager
def told_as_down(what: str) -> Iterator[None]:
    """Around a call: what AWS says, in one line, as JobsDown."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise JobsDown(f"{what} can't be reached ({reason(error)})") from error


def reason(error: Exception) -> str:
    """The code that AWS gave, else the kind of the failure."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__
