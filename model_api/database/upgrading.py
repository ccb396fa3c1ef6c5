"""The schema, brought up to this release's by Alembic's steps in migrations/versions.

A step must leave what the release before reads and writes: during a deployment both run on one database.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from model_api.database.connecting import WRITES
from model_api.errors import DatabaseDown

MIGRATIONS = Path(__file__).with_name("migrations")
VERSIONS = MIGRATIONS / "versions"
_TABLE = "history_schema"  # names the last step that was taken
_LOCK = 7_265_731_902  # any number, the same in every release
_LOCK_NAME = "model_api.history_schema"
_LOCK_WAIT_S = 60
_ALEMBIC = threading.Lock()  # its context is the process'


def steps() -> list[str]:
    """The names of all steps, in order."""
    return sorted(path.stem for path in VERSIONS.glob("v[0-9]*.py"))


def bring_up_to_date(engine: Engine) -> None:
    """Take the steps that are left, one instance at a time. Raises DatabaseDown for a newer release's schema."""
    with engine.connect() as connection:
        if _stands_at(connection) == steps()[-1]:
            return  # as nearly always; Alembic isn't even imported
    with engine.execution_options(**{WRITES: True}).connect() as connection, _alone(connection):
        at = _stands_at(connection)
        if at is not None and at not in steps():
            raise DatabaseDown(
                f"its schema is {at[:64]}, which a newer release made; this one knows {steps()[-1]} and earlier"
            )
        _upgrade(connection)


def _stands_at(connection: Connection) -> str | None:
    found = None
    if inspect(connection).has_table(_TABLE):
        found = connection.execute(text(f"SELECT version_num FROM {_TABLE}")).scalar()  # noqa: S608
    connection.rollback()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))

    def to_the_last(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs("head", revision)  # as Alembic's own manual has it

    with _ALEMBIC, EnvironmentContext(Config(), scripts, fn=to_the_last) as environment:
        environment.configure(connection=connection, version_table=_TABLE, transactional_ddl=True)
        with environment.begin_transaction():
            environment.run_migrations()
        connection.commit()


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Held by one instance of all that use this database."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
        connection.commit()
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
            connection.commit()
    elif name == "mysql":
        if connection.execute(text(f"SELECT GET_LOCK('{_LOCK_NAME}', {_LOCK_WAIT_S})")).scalar() != 1:
            raise DatabaseDown("another instance has been changing the schema for a minute")
        connection.commit()
        try:
            yield
        finally:
            connection.rollback()
            connection.execute(text(f"SELECT RELEASE_LOCK('{_LOCK_NAME}')"))
            connection.commit()
    else:
        yield  # its transaction begins as one that writes, for which it waits
