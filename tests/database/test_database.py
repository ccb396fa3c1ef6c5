"""What every database promises: its schema, words for its failures, and bounds in time."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, select, text

from model_api.database import connecting
from model_api.database.connecting import open_engine
from model_api.database.database import Database, add_up
from model_api.database.upgrading import steps
from model_api.errors import DatabaseDown
from model_api.history.tables import GROUPS, METADATA, SAMPLES
from tests.needs import needs_root
from tests.rigs.databases import database_url as database_url
from tests.rigs.databases import where as where
from tests.rigs.free_port import free_port
from tests.rigs.sql_servers import SqlServer

SAMPLE = {"id": 1, "document": "a", "summary": "b"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds in time that a test can wait for."""
    for name in ("CONNECT_TIMEOUT_S", "LOCK_TIMEOUT_S", "STATEMENT_TIMEOUT_S"):
        monkeypatch.setattr(connecting, name, 1)


@contextlib.contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def keep(database: Database) -> None:
    database.write(lambda connection: connection.execute(insert(SAMPLES), [SAMPLE]))


def test_the_steps_make_the_tables(database_url: str) -> None:
    Database(database_url).close()
    engine = open_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": "history_schema"})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_many_open_an_empty_one_at_once(database_url: str) -> None:
    barrier, failures = threading.Barrier(4), []

    def open_it() -> None:
        barrier.wait()
        try:
            Database(database_url).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with opened(database_url) as database:
        keep(database)


def test_a_newer_schema_is_refused_by_name(database_url: str) -> None:
    with opened(database_url) as database:
        database.write(
            lambda connection: connection.execute(text("UPDATE history_schema SET version_num = 'v0999_next'"))
        )
    with pytest.raises(DatabaseDown, match=rf"v0999_next.*{steps()[-1]}"):
        Database(database_url)


def test_sums_are_added_up_by_many_at_once(database_url: str) -> None:
    with opened(database_url) as first, opened(database_url) as second:
        row = {"kind": "user", "day": 1, "model": "m", "label": "l", "n": 1, "total_score": 0.5}
        rows = [{**row, "name": name} for name in ("b", "a", "B", "é", "e")]

        def add(database: Database, rows: list[dict[str, Any]]) -> None:
            for _ in range(20):
                database.write(lambda connection: add_up(connection, GROUPS, rows))

        threads = [
            threading.Thread(target=add, args=(first, rows)),
            threading.Thread(target=add, args=(second, rows[::-1])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with first.reading() as connection:
            found = {row.name: (row.n, row.total_score) for row in connection.execute(select(GROUPS))}
    assert found == dict.fromkeys(("a", "b", "B", "e", "é"), (40, 20.0))


def test_a_write_that_fails_has_written_nothing(database_url: str) -> None:
    with opened(database_url) as database:

        def work(connection: Any) -> None:
            connection.execute(insert(SAMPLES), [SAMPLE])
            connection.execute(insert(SAMPLES), [SAMPLE])

        with pytest.raises(DatabaseDown, match="refuses"):
            database.write(work)
        with database.reading() as connection:
            assert connection.execute(select(SAMPLES)).all() == []


def test_no_message_holds_what_was_written(database_url: str) -> None:
    with opened(database_url) as database:
        keep(database)
        with pytest.raises(DatabaseDown) as caught:
            database.write(lambda c: c.execute(insert(SAMPLES), [{**SAMPLE, "document": "their secret"}]))
    assert "their secret" not in str(caught.value)


@pytest.mark.usefixtures("patient")
def test_who_holds_a_lock_holds_nobody_for_long(database_url: str, where: SqlServer | None) -> None:
    with opened(database_url) as database:
        keep(database)
        holder = create_engine(open_engine(database_url).url)
        with holder.connect() as connection:
            if where is None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.execute(text("UPDATE sample_pairs SET document = 'mine' WHERE id = 1"))
            began = time.monotonic()
            with pytest.raises(DatabaseDown, match=r"(?i)lock|timeout"):
                database.write(lambda c: c.execute(text("UPDATE sample_pairs SET document = 'ours' WHERE id = 1")))
            assert time.monotonic() - began < 10
            connection.rollback()
        holder.dispose()


@pytest.mark.usefixtures("patient")
def test_a_statement_that_takes_too_long_is_ended(database_url: str, where: SqlServer | None) -> None:
    if where is not None and where.url.startswith("mysql"):
        slow = "SELECT SLEEP(30)"
    elif where is not None:
        slow = "SELECT pg_sleep(30)"
    else:
        slow = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with opened(database_url) as database:
        began = time.monotonic()
        with pytest.raises(DatabaseDown), database.reading() as connection:
            connection.execute(text(slow))
        assert time.monotonic() - began < 20
        keep(database)  # and nothing of it is left


@pytest.mark.integration
@pytest.mark.usefixtures("patient")
def test_a_server_that_hangs_is_told(where: SqlServer | None, database_url: str) -> None:
    if where is None:
        return  # a file doesn't hang
    with opened(database_url) as database:
        where.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(DatabaseDown):
                keep(database)
            assert time.monotonic() - began < 30
        finally:
            where.thaw()
        keep(database)  # it is back, and so are we


@pytest.mark.integration
def test_a_server_that_takes_no_writes_is_told(where: SqlServer | None, database_url: str, tmp_path: Path) -> None:
    Database(database_url).close()
    if where is None:
        needs_root("mounts a file system read-only")
        folder = Path(database_url.removeprefix("sqlite:///")).parent
        with mounted(folder, "-o", "bind"):
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
            with pytest.raises(DatabaseDown, match=r"readonly|unable to open"), opened(database_url) as database:
                keep(database)
        return
    name = database_url.rpartition("/")[2]
    is_mysql = database_url.startswith("mysql")
    where.administer(
        "SET GLOBAL read_only = 1" if is_mysql else f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    )
    try:
        with opened(database_url) as database, pytest.raises(DatabaseDown, match=r"read.only"):
            keep(database)
    finally:
        if is_mysql:
            where.administer("SET GLOBAL read_only = 0")


@pytest.mark.integration
def test_a_full_disk_is_told_and_costs_nothing_that_was_there(tmp_path: Path) -> None:
    needs_root("mounts a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", "size=400k"), opened(f"sqlite:///{folder}/history.sqlite") as database:
        keep(database)
        with pytest.raises(DatabaseDown, match="full"):
            database.write(
                lambda c: c.execute(
                    insert(SAMPLES), [{**SAMPLE, "id": i, "document": "x" * 50_000} for i in range(2, 20)]
                )
            )
        with database.reading() as connection:
            assert len(connection.execute(select(SAMPLES)).all()) == 1


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    source = str(folder) if "bind" in options else "none"
    subprocess.run(["mount", *options, source, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_server_that_is_away_is_told_without_its_password(scheme: str) -> None:
    with pytest.raises(DatabaseDown) as caught:
        Database(f"{scheme}://someone:hidden-word@127.0.0.1:{free_port()}/x")
    assert "hidden-word" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("no database, but long enough to be read as one" * 100)
    with pytest.raises(DatabaseDown, match="not a database"):
        Database(f"sqlite:///{tmp_path}/history.sqlite")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseDown, match="can't be made"):
        Database(f"sqlite:///{tmp_path}/file/history.sqlite")


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatabaseDown, match=r"requirements-database\.txt"):
        Database("postgresql://127.0.0.1/x")


def test_only_its_user_reads_the_folder_that_was_made(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/new/history.sqlite").close()
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
