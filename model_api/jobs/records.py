"""Where jobs are noted: a protocol of few steps, each of them atomic, and its embedded form in one SQLite file.

A write names the revision that it was decided on, and isn't taken if there is a newer one: what may follow what is
job.py's alone, and every store only has to compare one number.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model_api.errors import JobsDown
from model_api.jobs.job import MAX_BACKOFF_S, Job, Status

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    status TEXT NOT NULL,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    created REAL NOT NULL,
    ready_at REAL NOT NULL,
    expires REAL,      -- NULL while it runs
    notify_at REAL,    -- NULL unless somebody is to be told that it is over
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_ready ON jobs (status, created);
CREATE INDEX jobs_listed ON jobs (owner, created, id);
CREATE INDEX jobs_expiring ON jobs (expires) WHERE status != 'expired';
CREATE INDEX jobs_notices ON jobs (notify_at) WHERE notify_at IS NOT NULL;
"""


@dataclass(frozen=True)
class Listing:
    """Which jobs to list, newest first: those of `owner` after the one made at `after` (created, id)."""

    owner: str
    status: Status | None = None
    kind: str | None = None
    after: tuple[float, str] | None = None
    limit: int = 50


class Records(Protocol):
    """Any thread, any number of processes or machines. Every method raises JobsDown where the store can't do it, and
    then either nothing happened or, for a write whose answer was lost, all of it."""

    def now(self) -> float:
        """Seconds since 1970 by one clock for all who use this store."""

    def add(self, job: Job) -> bool:
        """False, and nothing is written, if there is a job of this id."""

    def get(self, job_id: str) -> Job | None: ...

    def swap(self, old: Job, new: Job) -> bool:
        """Write `new` if the record still has the revision of `old`; whether it was written."""

    def remove(self, job: Job) -> bool:
        """Forget it if the record still has this revision."""

    def ready(self, now: float, limit: int) -> Sequence[Job]:
        """Queued jobs that may start, those first that were asked for first."""

    def running(self, limit: int) -> Sequence[Job]: ...

    def queued(self, limit: int) -> Sequence[Job]:
        """All that are queued, whether or not they may start."""

    def count_waiting(self) -> int:
        """How many are queued."""

    def expiring(self, now: float, limit: int) -> Sequence[Job]:
        """Jobs past their time whose record doesn't say so yet."""

    def expired(self, before: float, limit: int) -> Sequence[Job]:
        """Jobs that expired before that moment, and say so."""

    def to_notify(self, now: float, limit: int) -> Sequence[Job]: ...

    def page(self, listing: Listing, now: float) -> Sequence[Job]: ...

    def close(self) -> None: ...


class SqliteRecords:
    """One file, for all processes of this machine. Each write is on disk before the call returns."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises JobsDown, for a file of a newer release too."""
        self._clock = clock
        self._lock = threading.Lock()
        self._file = file
        self._connection: sqlite3.Connection | None = None
        with self._using() as connection:
            connection.execute("SELECT 1 FROM jobs LIMIT 1")

    def now(self) -> float:
        return self._clock()

    def add(self, job: Job) -> bool:
        columns = ", ".join(_row(job))
        marks = ", ".join(f":{name}" for name in _row(job))
        with self._using() as connection:
            done = connection.execute(f"INSERT OR IGNORE INTO jobs ({columns}) VALUES ({marks})", _row(job))  # noqa: S608
            return done.rowcount == 1

    def get(self, job_id: str) -> Job | None:
        return next(iter(self._select("id = :id", id=job_id)), None)

    def swap(self, old: Job, new: Job) -> bool:
        changes = ", ".join(f"{name} = :{name}" for name in _row(new) if name != "id")
        with self._using() as connection:
            done = connection.execute(
                f"UPDATE jobs SET {changes} WHERE id = :id AND revision = :old_revision",  # noqa: S608
                {**_row(new), "old_revision": old.revision},
            )
            return done.rowcount == 1

    def remove(self, job: Job) -> bool:
        with self._using() as connection:
            done = connection.execute("DELETE FROM jobs WHERE id = ? AND revision = ?", (job.id, job.revision))
            return done.rowcount == 1

    def ready(self, now: float, limit: int) -> Sequence[Job]:
        return self._select(
            "status = 'queued' AND NOT (ready_at > :now AND ready_at <= :latest) AND expires > :now"
            " ORDER BY created LIMIT :limit",
            now=now,
            latest=now + MAX_BACKOFF_S,
            limit=limit,
        )

    def running(self, limit: int) -> Sequence[Job]:
        return self._select("status = 'running' LIMIT :limit", limit=limit)

    def queued(self, limit: int) -> Sequence[Job]:
        return self._select("status = 'queued' LIMIT :limit", limit=limit)

    def count_waiting(self) -> int:
        with self._using() as connection:
            return int(connection.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()[0])

    def expiring(self, now: float, limit: int) -> Sequence[Job]:
        return self._select("status != 'expired' AND expires <= :now LIMIT :limit", now=now, limit=limit)

    def expired(self, before: float, limit: int) -> Sequence[Job]:
        return self._select("status = 'expired' AND expires < :before LIMIT :limit", before=before, limit=limit)

    def to_notify(self, now: float, limit: int) -> Sequence[Job]:
        return self._select("notify_at <= :now ORDER BY notify_at LIMIT :limit", now=now, limit=limit)

    def page(self, listing: Listing, now: float) -> Sequence[Job]:
        conditions, values = ["owner = :owner"], {"owner": listing.owner, "now": now, "limit": listing.limit}
        if listing.status == Status.EXPIRED:
            conditions.append("expires <= :now")
        elif listing.status is not None:
            conditions.append("status = :status AND (expires IS NULL OR expires > :now)")
            values["status"] = str(listing.status)
        if listing.kind is not None:
            conditions.append("kind = :kind")
            values["kind"] = listing.kind
        if listing.after is not None:
            conditions.append("(created, id) < (:created, :after)")
            values["created"], values["after"] = listing.after
        return self._select(f"{' AND '.join(conditions)} ORDER BY created DESC, id DESC LIMIT :limit", **values)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _select(self, where: str, **values: Any) -> list[Job]:
        with self._using() as connection:
            rows = connection.execute(f"SELECT record FROM jobs WHERE {where}", values).fetchall()  # noqa: S608
        return [Job.from_json(record) for (record,) in rows]

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. After any trouble a fresh one is opened: the old one may hold a
        broken file, or one that was put aside."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self._file)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise JobsDown(f"jobs can't be kept now ({error})") from error

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "revision": job.revision,
        "status": str(job.status),
        "kind": job.kind,
        "owner": job.owner,
        "created": job.created,
        "ready_at": job.ready_at,
        "expires": job.expires,
        "notify_at": job.notify_at,
        "record": job.to_json(),
    }


def _connect(file: Path) -> sqlite3.Connection:
    """The file, made or brought up to this release's form. Raises sqlite3.Error, OSError or JobsDown."""
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Two processes may find the file empty at the same time: the second waits here, and then finds the table.
        connection.execute("BEGIN IMMEDIATE")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise JobsDown(f"{file} was written by a newer release (form {version}, this one knows {SCHEMA_VERSION})")
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
