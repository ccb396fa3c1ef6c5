"""One large file over several workers: cut into parts that are jobs of their own, and joined in order.

Whoever claimed the file's job cuts it, at ends of rows, and does parts himself until none is left that nobody does; so
it gets done by one worker, and sooner by many. Each part has its own lease, attempts and result. A successor finds the
same parts: their names follow from the file's job and the weights, and what is done of them stays done.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from model_api.errors import CallerLeft, JobFailed, JobsDown, VersionNotLoaded
from model_api.jobs import job as states
from model_api.jobs.files.forms import open_form, render_header
from model_api.jobs.job import Job, Status
from model_api.jobs.objects import ObjectExists, owner_of
from model_api.jobs.queue import JobQueue, Request
from model_api.jobs.runner import Run
from model_api.serving.calls import Weights

PART = "part"
OWNER = "parts"  # nobody's: callers don't see them
PARTS = "parts"  # the kind of their objects
PART_ROWS = 5000
CHUNK_BYTES = 1 << 20
LOOK_ROWS = 10_000  # read between looks at whether anybody still wants it
LOOK_S = 1.0
PARENT_LOOK_S = 5.0
MIN_TTL_S = OLD_S = 86400.0


@dataclass(frozen=True)
class Cut:
    """Bytes [begin, end) of the file: some rows, after `lines` lines of it."""

    begin: int
    end: int
    rows: int
    lines: int


@dataclass(frozen=True)
class Survey:
    """What reading a file to its end has told. `head` bytes come before the first row."""

    rows: int
    head: int
    cuts: Sequence[Cut]


def survey(file: BinaryIO, form: str, column: str, part_rows: int, look: Callable[[], None]) -> Survey:
    """Read it all, once. `look` is called now and then, and may raise. Raises BadTable."""
    reader = open_form(form, file, column)
    head = begin = reader.offset
    lines, rows, in_part = reader.lines, 0, 0
    begin_lines, cuts = lines, []
    for _ in reader:
        rows, in_part = rows + 1, in_part + 1
        if rows % LOOK_ROWS == 0:
            look()
        if in_part == part_rows:
            cuts.append(Cut(begin, reader.offset, in_part, begin_lines))
            begin, begin_lines, in_part = reader.offset, reader.lines, 0
    if in_part:
        cuts.append(Cut(begin, reader.offset, in_part, begin_lines))
    return Survey(rows, head, cuts)


class Sharing:
    """Cuts, shares and joins; on the runner's threads."""

    def __init__(self, queue: JobQueue, part_rows: int = PART_ROWS) -> None:
        self._queue = queue
        self.part_rows = part_rows
        self._notes: dict[str, Callable[[str, int], None]] = {}  # of files whose job is worked on here

    def do(
        self, run: Run, work: Mapping[str, Any], source: BinaryIO, found: Survey, weights: Weights, form: str
    ) -> "Joined":
        """All parts, by whomever. Raises CallerLeft, JobFailed, VersionNotLoaded or JobsDown."""
        parts = [self._ask(run.job, work, source, found, weights, index) for index in range(len(found.cuts))]
        done = {part.id: part.progress.done for part in parts}

        def note(part_id: str, rows: int) -> None:
            done[part_id] = rows
            run.advance(sum(done.values()))

        self._notes[run.job.id] = note
        try:
            parts = self._finish(run, parts, note)
        finally:
            del self._notes[run.job.id]
        keys = [_part_key(run.job, weights, index) for index in range(len(parts))]
        return Joined(self._queue, parts, form, work["column"], source, keys)

    def watch(self, run: Run) -> Callable[[int], None]:
        """What a part calls with the rows done. Raises CallerLeft where nobody wants the file any more."""
        parent_id, looked_s = str(run.job.upload), 0.0

        def look() -> None:
            nonlocal looked_s
            looked_s = time.monotonic()
            parent = self._queue.records.get(parent_id)
            if parent is None or parent.is_over:
                self._queue.cancel(run.job.id, OWNER)
                run.end()
            if run.has_left():
                raise CallerLeft("nobody waits for this part")

        def progress(rows: int) -> None:
            run.advance(rows)
            if note := self._notes.get(parent_id):
                note(run.job.id, rows)
            if run.has_left() or time.monotonic() - looked_s >= PARENT_LOOK_S:
                look()

        look()
        return progress

    def drop_old(self) -> None:
        """Remove rows that were cut for files whose job is over, or gone."""
        records = self._queue.records
        for key in list(self._queue.objects.old_keys(PARTS, OLD_S)):
            parent = records.get(owner_of(key))
            if parent is None or states.seen(parent, records.now()).is_over:
                self._queue.objects.remove(key)

    def _finish(self, run: Run, parts: Sequence[Job], note: Callable[[str, int], None]) -> list[Job]:
        """The parts, once all have succeeded: what nobody does is done here."""
        known = {part.id: part for part in parts}
        while unfinished := [part.id for part in known.values() if part.status != Status.SUCCEEDED]:
            worked = False
            for part_id in unfinished:
                if run.has_left():
                    raise CallerLeft("nobody waits for this file")
                after = run.run_also(part_id)
                worked = worked or after is not None
                known[part_id] = self._looked_at(part_id)
                note(part_id, known[part_id].progress.done)
            if not worked and run.wait(LOOK_S):
                raise CallerLeft("nobody waits for this file")
        return [known[part.id] for part in parts]

    def _looked_at(self, part_id: str) -> Job:
        part = self._queue.get(part_id, OWNER)
        if part.status == Status.FAILED:
            problem = part.error or {}
            if str(problem.get("type", "")).endswith("/version-not-loaded"):
                raise VersionNotLoaded(str(part.model), str(part.version))
            raise JobFailed(problem)
        if part.status in (Status.CANCELLED, Status.EXPIRED):
            raise JobsDown("a part of the file was taken away; it is cut again")
        return part

    def _ask(
        self, job: Job, work: Mapping[str, Any], source: BinaryIO, found: Survey, weights: Weights, index: int
    ) -> Job:
        """The job of one part, with its rows as an object; as it is, where it was asked for before."""
        key, cut = _part_key(job, weights, index), found.cuts[index]
        self._cut(source, found.head, cut, key)
        asked = {**work, "call": PART, "parent_call": work["call"], "key": key, "lines": cut.lines}
        part, _ = self._queue.submit(
            Request(
                kind=PART,
                work=asked,
                model=weights.model,
                version=weights.version,
                digest=weights.digest,
                pinned=True,
                upload=job.id,
                owner=OWNER,
                ttl_s=max(job.ttl_s, MIN_TTL_S),
                total=cut.rows,
                unit="rows",
            )
        )
        if part.status == Status.FAILED:  # of an earlier attempt at the file
            part = self._queue.retry(part.id, OWNER)
        return part

    def _cut(self, source: BinaryIO, head: int, cut: Cut, key: str) -> None:
        objects = self._queue.objects
        try:
            with objects.writer(key, "application/octet-stream") as target:
                for begin, end in ((0, head), (cut.begin, cut.end)):
                    source.seek(begin)
                    while begin < end:
                        chunk = source.read(min(CHUNK_BYTES, end - begin))
                        target.write(chunk)
                        begin += len(chunk)
        except ObjectExists:
            pass  # cut before, at the same places


class Joined:
    """The results of all parts, in order."""

    def __init__(
        self, queue: JobQueue, parts: Sequence[Job], form: str, column: str, source: BinaryIO, keys: Sequence[str]
    ) -> None:
        self._queue, self._parts, self._keys = queue, parts, keys
        source.seek(0)
        self._head = len(render_header(open_form(form, source, column), neutral=True))
        self.errors = sum(part.progress.errors for part in parts)

    def write_to(self, target: BinaryIO) -> int:
        """Memory doesn't grow with them; how many bytes. Raises ObjectGone."""
        written = 0
        for index, part in enumerate(self._parts):
            assert part.result is not None
            with self._queue.objects.reader(part.result.key or "") as stream:
                if index:
                    stream.read(self._head)
                while chunk := stream.read(CHUNK_BYTES):
                    target.write(chunk)
                    written += len(chunk)
        return written

    def drop(self) -> None:
        """Once the whole is safe. What a crash leaves here expires."""
        for part, key in zip(self._parts, self._keys, strict=True):
            if self._queue.records.remove(part) and part.result is not None:
                self._queue.objects.remove(part.result.key or "")
            self._queue.objects.remove(key)


def _part_key(job: Job, weights: Weights, index: int) -> str:
    token = hashlib.sha256(f"{job.id} {job.fingerprint} {weights.digest} {index}".encode()).hexdigest()[:32]
    return f"{PARTS}/{job.id}.{token}"
