"""The run itself: chunks of rows in flight, results written in order, and a note of how far it got."""

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from model_api.jobs.files.forms import open_form, render_header, render_row
from model_api.jobs.files.predictors import Asker, Hopeless, OneFails, RowRefused, TryLater
from model_api.jobs.files.tables import Row
from model_api.repository.files import locked_file, write_aside

NOTE_EVERY_S = 1.0  # a note waits for the disk; what is lost with a crash is this much work
MAX_TRIES = 8  # of a chunk that should be tried later; then its rows are tried alone
Outcome = tuple[Any, str | None]  # prediction, or an error


@dataclass(frozen=True)
class Job:
    """What to do. `identity` tells two jobs apart: a run goes on only with the job that began it."""

    source: Path
    target: Path
    form: str  # of both files: tables.CSV or JSON_LINES
    column: str
    identity: Mapping[str, Any]
    rows_per_request: int = 32
    requests_at_once: int = 4
    neutral: bool = False  # see tables.render_row
    lines_before: int | None = None  # of the whole file, where the source is a part of it


@dataclass(frozen=True)
class Done:
    rows: int
    errors: int


@dataclass
class _Note:
    """How far a run got: so many rows are in the first `target_bytes` of the unfinished target."""

    rows: int = 0
    errors: int = 0
    target_bytes: int = 0


def run(job: Job, asker: Asker, progress: Callable[[int, int, int], None], stop: threading.Event) -> Done:
    """Do it, going on where an earlier run of the same job stopped; `target` appears when all is done.

    `progress(rows, source_bytes_read, source_bytes)` after every chunk. `stop` is waited on between tries, and set at
    the end, however that comes. Raises BadTable, Hopeless, OSError.
    """
    partial, note_path = (job.target.with_name(job.target.name + end) for end in (".part", ".part.json"))
    identity = {**job.identity, "column": job.column, **_identity_of(job.source)}
    total_bytes = job.source.stat().st_size
    with job.source.open("rb") as source:
        reader = open_form(job.form, source, job.column, job.lines_before)
        with _only_writer(partial) as target:
            note = _read_note(note_path, partial, identity)
            target.truncate(note.target_bytes)
            if not note.target_bytes:
                target.write(render_header(reader, neutral=job.neutral))
            rows = islice(iter(reader), note.rows, None)
            noted_s = time.monotonic()
            try:
                for chunk, outcomes in _answered(job, asker, rows, stop):
                    for row, (prediction, error) in zip(chunk, outcomes, strict=True):
                        target.write(render_row(reader, row, prediction, error, neutral=job.neutral))
                        note.errors += error is not None
                    note.rows += len(chunk)
                    if time.monotonic() - noted_s >= NOTE_EVERY_S:
                        _write_note(note_path, note, target, identity)
                        noted_s = time.monotonic()
                    progress(note.rows, reader.offset, total_bytes)
            finally:
                _write_note(note_path, note, target, identity)
            partial.replace(job.target)
            note_path.unlink(missing_ok=True)
    return Done(note.rows, note.errors)


def _answered(
    job: Job, asker: Asker, rows: Iterator[Row], stop: threading.Event
) -> Iterator[tuple[list[Row], list[Outcome]]]:
    """Chunks with their outcomes, in order. Twice as many are held as are asked for at once: else a slow one at the
    head would leave the others' threads with nothing to ask."""
    ahead = 2 * job.requests_at_once
    waiting: deque[tuple[list[Row], Future[list[Outcome]]]] = deque()
    with ThreadPoolExecutor(job.requests_at_once) as threads:
        try:
            while True:
                while len(waiting) < ahead and (chunk := list(islice(rows, job.rows_per_request))):
                    waiting.append((chunk, threads.submit(_outcomes, asker, chunk, job.column, stop)))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                yield chunk, future.result()
        finally:
            stop.set()
            for _, future in waiting:
                future.cancel()


def _outcomes(asker: Asker, rows: Sequence[Row], column: str, stop: threading.Event) -> list[Outcome]:
    """One per row, in order. A row that is refused is left out, and the rest asked again. Raises Hopeless."""
    outcomes: dict[int, Outcome] = {}
    for i, row in enumerate(rows):
        if row.fault or column not in row.values:
            outcomes[i] = None, row.fault or f"no {column!r}"
    tries = 0
    while left := [i for i in range(len(rows)) if i not in outcomes]:
        try:
            predictions = asker.ask([rows[i].values[column] for i in left])
        except RowRefused as error:
            outcomes[left[error.index]] = (None, str(error))
        except OneFails:
            outcomes |= {i: _outcomes(asker, [rows[i]], column, stop)[0] for i in left}
        except TryLater as error:
            tries += 1
            if tries >= MAX_TRIES and len(left) == 1:
                raise Hopeless(f"given up after {tries} tries: {error}") from error
            if tries >= MAX_TRIES:
                outcomes |= {i: _outcomes(asker, [rows[i]], column, stop)[0] for i in left}
            elif stop.wait(min(30.0, error.after_s * 2 ** (tries - 1))):
                raise Hopeless(f"stopped: {error}") from error
        else:
            outcomes |= {i: (prediction, None) for i, prediction in zip(left, predictions, strict=True)}
    return [outcomes[i] for i in range(len(rows))]


@contextlib.contextmanager
def _only_writer(partial: Path) -> Iterator[BinaryIO]:
    """Raises OSError if another run writes it."""
    try:
        with locked_file(partial, wait=False) as target:
            yield target
    except BlockingIOError as error:
        raise OSError(f"another run is writing {partial}") from error


def _identity_of(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"source_bytes": stat.st_size, "source_mtime_ns": stat.st_mtime_ns}


def _read_note(path: Path, partial: Path, identity: Mapping[str, Any]) -> _Note:
    try:
        saved = json.loads(path.read_text())
        note = _Note(**saved["note"])
        if saved["identity"] == dict(identity) and partial.stat().st_size >= note.target_bytes:
            return note
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Note()


def _write_note(path: Path, note: _Note, target: BinaryIO, identity: Mapping[str, Any]) -> None:
    """After the rows it speaks of are on disk: a run that is killed between loses nothing, and does again what came
    since the last note."""
    target.flush()
    os.fsync(target.fileno())
    note.target_bytes = target.tell()
    write_aside(path, json.dumps({"identity": dict(identity), "note": vars(note)}))
