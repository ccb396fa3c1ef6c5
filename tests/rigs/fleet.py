"""What a fleet's jobs need of AWS, on loopback: see scripts/rehearsal/aws.py."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from scripts.rehearsal import aws
from scripts.rehearsal.aws import DYNAMODB_LOCAL, MOTO_SERVER, OPTIONS, Cloud, Resources
from tests.needs import needs
from tests.rigs.free_port import free_port

__all__ = ["OPTIONS", "Cloud", "Resources", "cloud"]


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """Both servers, once they answer."""
    needs("java")
    needs(str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"))
    needs(str(MOTO_SERVER))
    with aws.cloud(folder, (free_port(), free_port())) as found:
        yield found
