"""A whole file as a job: an upload in, the same with predictions out, resumed where a killed worker stopped."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_api.errors import CallerLeft, DeadlineExceeded, InvalidInput, JobsDown, ModelApiError, VersionNotLoaded
from model_api.jobs.files.batches import BATCH, BODY, BatchAsker, model_of
from model_api.jobs.files.parts import PART, Joined, Sharing, Survey, survey
from model_api.jobs.files.predictors import CALLER, Hopeless, ServiceAsker
from model_api.jobs.files.run import Job as FileRun
from model_api.jobs.files.run import run as run_file
from model_api.jobs.files.tables import CSV, JSON_LINES, BadTable, open_reader
from model_api.jobs.job import Job
from model_api.jobs.objects import ObjectGone, Objects, new_key
from model_api.jobs.runner import Outcome, Run
from model_api.repository.files import hash_file
from model_api.serving.calls import CallContext, ModelService, Weights

FORMS = {"text/csv": CSV, "application/jsonl": JSON_LINES, "application/x-ndjson": JSON_LINES}
ENDS = {CSV: "csv", JSON_LINES: "jsonl"}
OLD_S = 86400.0
MAX_SWAPS = 5
BATCH_CALLS = {"rows_per_request": 1, "requests_at_once": 16}


def check_table(objects: Objects, key: str, content_type: str, column: str) -> None:
    """Raises InvalidInput where the upload is no table, or lacks the column."""
    if content_type not in FORMS:
        raise InvalidInput(f"must be CSV or JSON lines, not {content_type}", "/upload")
    try:
        with objects.reader(key) as stream:
            open_reader(FORMS[content_type], stream, column)
    except BadTable as error:
        place = "/parameters/column" if str(error).startswith("no column") else "/upload"
        raise InvalidInput(str(error), place) from None


def batch_model(objects: Objects, key: str) -> str:
    """The model that a batch file asks for. Raises InvalidInput where it is none."""
    try:
        with objects.reader(key) as stream:
            return model_of(stream)
    except BadTable as error:
        raise InvalidInput(str(error), "/input_file_id") from None


class FileWork:
    """Does file jobs, on the runner's threads."""

    def __init__(
        self,
        service: ModelService,
        objects: Objects,
        scratch: Path,
        call_timeout_s: float,
        sharing: Sharing | None = None,
    ) -> None:
        """`scratch` is on the disk of the objects: what is half done lies there. Without `sharing` a file is one
        worker's, who goes on where the last one on this disk stopped."""
        self._sharing = sharing
        self._service = service
        self._objects = objects
        self._scratch = scratch
        self._call_timeout_s = call_timeout_s

    def __call__(self, run: Run, work: Mapping[str, Any]) -> Outcome:
        """Raises InvalidInput for a file that is no table, what the model's calls raise, and CallerLeft."""
        job, call = run.job, work.get("parent_call", work["call"])
        if call == BATCH:
            work = {**work, "column": BODY}
        form = BATCH if call == BATCH else FORMS[work["content_type"]]
        source = self._source(work, self._scratch / job.id)
        if work["call"] == PART:
            return self._part(run, work, source, form)
        found = self._surveyed(run, source, form, work["column"])
        run.advance(0, found.rows, "rows")
        version = job.version
        for _ in range(MAX_SWAPS):
            address = f"{work['model']}@{version}"
            try:
                weights = self._service.predict_weights(address, [], work["parameters"], self._context(run))
                if self._sharing is None or len(found.cuts) < 2:
                    target = self._run(run, work, source, form, address, weights.digest, self._progress(run))
                    return self._adopted(job, target, work["content_type"], form, weights)
                with source.open("rb") as stream:
                    joined = self._sharing.do(run, work, stream, found, weights, form)
                return self._joined(run, joined, work["content_type"], form, weights)
            except VersionNotLoaded:
                if job.pinned:
                    raise
                # Rows of two versions are never mixed: the successor does the whole file.
                context = self._context(run)
                version = self._service.predict_weights(work["model"], [], work["parameters"], context).version
        raise DeadlineExceeded(f"{work['model']} was swapped {MAX_SWAPS} times while the job ran")

    def _part(self, run: Run, work: Mapping[str, Any], source: Path, form: str) -> Outcome:
        """Some rows of a file, by the very weights that the file is done by."""
        assert self._sharing is not None
        job = run.job
        address = f"{work['model']}@{job.version}"
        weights = self._service.predict_weights(address, [], work["parameters"], self._context(run))
        if weights.digest != job.digest:
            raise VersionNotLoaded(work["model"], str(job.version))
        target = self._run(run, work, source, form, address, weights.digest, self._sharing.watch(run))
        return self._adopted(job, target, work["content_type"], form, weights)

    def _adopted(self, job: Job, target: Path, content_type: str, form: str, weights: Weights) -> Outcome:
        key, n_bytes = new_key("results", job.id), target.stat().st_size
        self._objects.adopt(key, target, content_type)
        shutil.rmtree(target.parent, ignore_errors=True)
        return _outcome(job, key, n_bytes, content_type, form, weights)

    def _joined(self, run: Run, joined: Joined, content_type: str, form: str, weights: Weights) -> Outcome:
        key = new_key("results", run.job.id)
        with self._objects.writer(key, content_type) as target:
            n_bytes = joined.write_to(target)
        run.advance(run.progress.total, errors=joined.errors)
        shutil.rmtree(self._scratch / run.job.id, ignore_errors=True)
        return replace(_outcome(run.job, key, n_bytes, content_type, form, weights), then=joined.drop)

    def drop_old(self) -> None:
        """Remove what lies half done for a day: its job is over, or will begin again."""
        limit = time.time() - OLD_S
        for folder in self._scratch.glob("*"):
            with contextlib.suppress(OSError):
                if max(file.stat().st_mtime for file in [folder, *folder.iterdir()]) < limit:
                    shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _progress(run: Run) -> Callable[[int], None]:
        def progress(rows: int) -> None:
            run.advance(rows)
            if run.has_left():
                raise CallerLeft("nobody waits for this job")

        return progress

    def _run(
        self,
        run: Run,
        work: Mapping[str, Any],
        source: Path,
        form: str,
        address: str,
        digest: str,
        progress: Callable[[int], None],
    ) -> Path:
        folder = self._scratch / run.job.id
        kind = BatchAsker if form == BATCH else ServiceAsker
        asker = kind(self._service, address, work["parameters"], self._call_timeout_s, run.has_left, run.guard)
        file_run = FileRun(
            source,
            folder / "predictions",
            form,
            work["column"],
            {"digest": digest, "parameters": work["parameters"]},
            neutral=True,
            lines_before=work.get("lines"),
            **(BATCH_CALLS if form == BATCH else {}),
        )

        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            done = run_file(file_run, asker, lambda rows, *_: progress(rows), _Stop(run))
            run.advance(done.rows, errors=done.errors)
        except BadTable as error:
            raise InvalidInput(str(error), "/upload") from None
        except Hopeless as error:
            if run.has_left():
                raise CallerLeft("nobody waits for this job") from error
            if isinstance(error.__cause__, ModelApiError):
                raise error.__cause__ from error
            raise JobsDown(str(error)) from error  # the model can't be asked now: it goes on from here later
        except OSError as error:
            raise JobsDown(f"the disk of the jobs fails ({error.strerror or error})") from error
        return file_run.target

    def _surveyed(self, run: Run, source: Path, form: str, column: str) -> Survey:
        """Also finds out, before anything is computed, whether the file can be read to its end."""

        def look() -> None:
            if run.has_left():
                raise CallerLeft("nobody waits for this job")

        part_rows = sys.maxsize if self._sharing is None else self._sharing.part_rows
        try:
            with source.open("rb") as stream:
                return survey(stream, form, column, part_rows, look)
        except BadTable as error:
            raise InvalidInput(str(error), "/upload") from None

    def _source(self, work: Mapping[str, Any], folder: Path) -> Path:
        """The rows, as they were accepted: whoever has a form for a bucket may send others after that."""
        try:
            file = self._objects.as_file(work["key"], folder)
            _, digest = hash_file(file)
        except (ObjectGone, FileNotFoundError):
            raise InvalidInput("the upload is kept no longer", "/upload") from None
        if work["call"] != PART and digest != work["sha256"]:
            raise InvalidInput("the upload was changed after it was accepted", "/upload")
        return file

    def _context(self, run: Run) -> CallContext:
        return CallContext(time.monotonic() + self._call_timeout_s, CALLER, CALLER, run.has_left, guard=run.guard)


def _outcome(job: Job, key: str, n_bytes: int, content_type: str, form: str, weights: Weights) -> Outcome:
    return Outcome(
        weights={"model": weights.model, "version": weights.version, "digest": weights.digest},
        file_key=key,
        file_bytes=n_bytes,
        media_type=content_type,
        file_name=f"{job.id[:16]}.predictions.{ENDS.get(form, JSON_LINES)}",
    )


class _Stop(threading.Event):
    """Set by the end of the run, or when nobody wants the result any more."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def wait(self, timeout: float | None = None) -> bool:
        return self._run.wait(timeout or 0.0) or self.is_set()
