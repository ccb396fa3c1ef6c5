"""An open database: transactions whose failures are told in words, and statements that each dialect has its own of."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, case
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from model_api.database import connecting
from model_api.database.connecting import WRITES, open_engine
from model_api.database.upgrading import bring_up_to_date
from model_api.errors import DatabaseDown

Found = TypeVar("Found")
ATTEMPTS = 3  # at a write that another instance's got in the way of
_SQLITE_STEPS = 10_000  # of its machine between looks at the clock


class Database:
    """Any thread. Every method raises DatabaseDown where the database can't do it; then nothing was written."""

    def __init__(self, url: str) -> None:
        """Connects, and brings the schema up to this release's."""
        self._engine = open_engine(url)
        self.dialect = self._engine.dialect.name
        try:
            with _told():
                bring_up_to_date(self._engine)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        with _told(), self._engine.connect() as connection:
            if self.dialect != "sqlite":
                yield connection
                return
            raw: Any = connection.connection.dbapi_connection
            give_up = time.monotonic() + connecting.STATEMENT_TIMEOUT_S
            raw.set_progress_handler(lambda: time.monotonic() > give_up, _SQLITE_STEPS)
            try:
                yield connection
            finally:
                raw.set_progress_handler(None, 0)

    def write(self, work: Callable[[Connection], Found]) -> Found:
        """`work` in one transaction; again where it met another instance's."""
        engine = self._engine.execution_options(**{WRITES: True})
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _told(), engine.begin() as connection:
                    return work(connection)
            except DatabaseDown as error:
                if attempt == ATTEMPTS or not _is_deadlock(error.__cause__):
                    raise
        raise AssertionError

    def close(self) -> None:
        with contextlib.suppress(SQLAlchemyError):
            self._engine.dispose()


def add_up(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    least: Sequence[str] = (),
    greatest: Sequence[str] = (),
) -> None:
    """Insert `rows`, or add them to those that have the same primary key: the columns `least` and `greatest` keep the
    smaller and the larger value (any beats none), all others the sum.

    Sorted by key, so that two instances never wait for each other in a ring."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    rows = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
    name = connection.dialect.name
    statement: Any
    if name == "mysql":
        statement = mysql.insert(table)
        new = statement.inserted
    else:
        statement = (postgresql if name == "postgresql" else sqlite).insert(table)
        new = statement.excluded
    changes: dict[str, Any] = {}
    for column in table.columns:
        if column.name in keys:
            continue
        given = new[column.name]
        if column.name in least or column.name in greatest:
            keeps = column <= given if column.name in least else column >= given
            changes[column.name] = case(
                (column.is_(None), given), (given.is_(None), column), (keeps, column), else_=given
            )
        else:
            changes[column.name] = column + given
    if name == "mysql":
        statement = statement.on_duplicate_key_update(changes)
    else:
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changes)
    connection.execute(statement, rows)


def _is_deadlock(error: BaseException | None) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    arguments: Sequence[Any] = getattr(error.orig, "args", [])
    code = getattr(error.orig, "sqlstate", None) or (arguments[0] if arguments else None)
    return code in ("40P01", "40001", 1213, 1020)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Failures in one line, without statements, values or addresses with passwords."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseDown("too many are asking the database already") from error
    except (OperationalError, InterfaceError) as error:
        raise DatabaseDown(f"the database says: {_words(error)}") from error
    except DBAPIError as error:
        raise DatabaseDown(f"the database refuses: {_words(error)}") from error
    except OSError as error:
        raise DatabaseDown(f"the database can't be reached ({error.strerror or error})") from error


def _words(error: DBAPIError) -> str:
    """The driver's own message; some put a number before it."""
    arguments: Sequence[Any] = getattr(error.orig, "args", [])
    text = str(arguments[1] if len(arguments) > 1 and isinstance(arguments[0], int) else error.orig)
    return next(iter(text.strip().splitlines()), "nothing")[:200]
