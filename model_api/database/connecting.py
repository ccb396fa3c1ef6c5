"""From a URL to an engine: each database made strict, bounded in time, and alike as far as they can be."""

import importlib.util
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from model_api.errors import DatabaseDown

CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 15
GRACE_S = 2.0  # within which the server itself ends a statement that takes too long
POOL_SIZE = 5
WRITES = "writes"  # execution option: this transaction will write

_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}


def open_engine(url: str) -> Engine:
    """Connects to nothing yet; makes the folder of an SQLite file. Raises DatabaseDown."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseDown("MODEL_API_DATABASE_URL is no URL of a database") from None
    name = parsed.get_backend_name()
    if name == "sqlite":
        return _sqlite(parsed)
    name = "mysql" if name == "mariadb" else name
    driver = _DRIVERS[name]
    if importlib.util.find_spec(driver) is None:
        raise DatabaseDown(f"{driver} isn't installed: pip install -r requirements-database.txt")
    parsed = parsed.set(drivername=f"{name}+{driver}")
    arguments = _postgresql() if name == "postgresql" else _mysql()
    engine = _engine(parsed, connect_args=arguments, isolation_level="READ COMMITTED", pool_pre_ping=True)
    if name == "postgresql":
        from model_api.database.postgresql import BoundedConnection

        @event.listens_for(engine, "do_connect")
        def connect(dialect: Any, record: Any, given: Any, named: Any) -> Any:
            connection = BoundedConnection.connect(*given, **named)
            connection.limit_s = STATEMENT_TIMEOUT_S + GRACE_S
            return connection

    return engine


def _engine(url: URL, **more: Any) -> Engine:
    return create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_recycle=1800,
        # Values are what callers sent: they go into no message and no log.
        hide_parameters=True,
        **more,
    )


def _postgresql() -> dict[str, Any]:
    limits = {"statement_timeout": STATEMENT_TIMEOUT_S, "lock_timeout": LOCK_TIMEOUT_S}
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": " ".join(f"-c {name}={seconds * 1000}" for name, seconds in limits.items()),
        "tcp_user_timeout": (STATEMENT_TIMEOUT_S + CONNECT_TIMEOUT_S) * 1000,
        "prepare_threshold": None,  # a pooler between us and the database may not know prepared statements
    }


def _mysql() -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": STATEMENT_TIMEOUT_S,
        "write_timeout": STATEMENT_TIMEOUT_S,
        "charset": "utf8mb4",
        "init_command": f"SET SESSION innodb_lock_wait_timeout={LOCK_TIMEOUT_S},"
        " sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    }


def _sqlite(url: URL) -> Engine:
    file = Path(url.database or "")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseDown(f"{file} can't be made ({error.strerror})") from error
    engine = _engine(url, connect_args={"timeout": LOCK_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we begin transactions, not Python's module
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last moments, never the file
        connection.execute("PRAGMA cache_size = -16384")

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        writes = connection.get_execution_options().get(WRITES)
        # Who will write waits for its turn at once: later it couldn't without failing.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
