"""Where a history may lie: a fixture for each test that must hold for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.sql_servers import SqlServer, mariadb, postgresql

SERVERS = {"postgresql": postgresql, "mariadb": mariadb}
KINDS = ("sqlite", *(pytest.param(name, marks=pytest.mark.integration) for name in SERVERS))


@pytest.fixture(scope="module", params=KINDS)
def where(request: pytest.FixtureRequest) -> Iterator[SqlServer | None]:
    """None: SQLite."""
    if request.param == "sqlite":
        yield None
        return
    with SERVERS[request.param]() as started:
        yield started


@pytest.fixture
def database_url(where: SqlServer | None, tmp_path: Path) -> str:
    """Of an empty database of this test's own."""
    return f"sqlite:///{tmp_path}/history.sqlite" if where is None else where.new_database()
