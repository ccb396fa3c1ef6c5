"""A whole file as a job: an upload in, the same with predictions out, resumed where a killed worker stopped."""

import contextlib
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import CallerLeft, DeadlineExceeded, InvalidInput, JobsDown, ModelApiError, VersionNotLoaded
from model_api.jobs.files.batches import BATCH, BODY, BatchAsker, model_of
from model_api.jobs.files.forms import open_form
from model_api.jobs.files.predictors import CALLER, Hopeless, ServiceAsker
from model_api.jobs.files.run import Job as FileRun
from model_api.jobs.files.run import run as run_file
from model_api.jobs.files.tables import CSV, JSON_LINES, BadTable, open_reader
from model_api.jobs.objects import ObjectGone, Objects, new_key
from model_api.jobs.runner import Outcome, Run
from model_api.serving.calls import CallContext, ModelService

FORMS = {"text/csv": CSV, "application/jsonl": JSON_LINES, "application/x-ndjson": JSON_LINES}
ENDS = {CSV: "csv", JSON_LINES: "jsonl"}
LOOK_ROWS = 10_000  # counted between looks at whether anybody still wants it
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

    def __init__(self, service: ModelService, objects: Objects, scratch: Path, call_timeout_s: float) -> None:
        """`scratch` is on the disk of the objects: what is half done lies there."""
        self._service = service
        self._objects = objects
        self._scratch = scratch
        self._call_timeout_s = call_timeout_s

    def __call__(self, run: Run, work: Mapping[str, Any]) -> Outcome:
        """Raises InvalidInput for a file that is no table, what the model's calls raise, and CallerLeft."""
        job = run.job
        if work["call"] == BATCH:
            work = {**work, "column": BODY}
        form = BATCH if work["call"] == BATCH else FORMS[work["content_type"]]
        source = self._source(work["key"], self._scratch / job.id)
        run.advance(0, self._count_rows(run, source, form, work["column"]), "rows")
        version = job.version
        for _ in range(MAX_SWAPS):
            address = f"{work['model']}@{version}"
            try:
                weights = self._service.predict_weights(address, [], work["parameters"], self._context(run))
                target = self._run(run, work, source, form, address, weights.digest)
            except VersionNotLoaded:
                if job.pinned:
                    raise
                # Rows of two versions are never mixed: the successor does the whole file.
                context = self._context(run)
                version = self._service.predict_weights(work["model"], [], work["parameters"], context).version
                continue
            key = new_key("results", job.id)
            n_bytes = target.stat().st_size
            self._objects.adopt(key, target, work["content_type"])
            shutil.rmtree(target.parent, ignore_errors=True)
            return Outcome(
                weights={"model": weights.model, "version": weights.version, "digest": weights.digest},
                file_key=key,
                file_bytes=n_bytes,
                media_type=work["content_type"],
                file_name=f"{job.id[:16]}.predictions.{ENDS.get(form, JSON_LINES)}",
            )
        raise DeadlineExceeded(f"{work['model']} was swapped {MAX_SWAPS} times while the job ran")

    def drop_old(self) -> None:
        """Remove what lies half done for a day: its job is over, or will begin again."""
        limit = time.time() - OLD_S
        for folder in self._scratch.glob("*"):
            with contextlib.suppress(OSError):
                if max(file.stat().st_mtime for file in [folder, *folder.iterdir()]) < limit:
                    shutil.rmtree(folder, ignore_errors=True)

    def _run(self, run: Run, work: Mapping[str, Any], source: Path, form: str, address: str, digest: str) -> Path:
        folder = self._scratch / run.job.id
        kind = BatchAsker if form == BATCH else ServiceAsker
        asker = kind(self._service, address, work["parameters"], self._call_timeout_s, run.has_left)
        file_run = FileRun(
            source,
            folder / "predictions",
            form,
            work["column"],
            {"digest": digest, "parameters": work["parameters"]},
            neutral=True,
            **(BATCH_CALLS if form == BATCH else {}),
        )

        def progress(rows: int, n_bytes: int, total_bytes: int) -> None:
            run.advance(rows)
            if run.has_left():
                raise CallerLeft("nobody waits for this job")

        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            done = run_file(file_run, asker, progress, _Stop(run))
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

    def _count_rows(self, run: Run, source: Path, form: str, column: str) -> int:
        """Also finds out, before anything is computed, whether the file can be read to its end."""
        rows = 0
        try:
            with source.open("rb") as stream:
                for rows, _ in enumerate(open_form(form, stream, column), 1):
                    if rows % LOOK_ROWS == 0 and run.has_left():
                        raise CallerLeft("nobody waits for this job")
        except BadTable as error:
            raise InvalidInput(str(error), "/upload") from None
        return rows

    def _source(self, key: str, folder: Path) -> Path:
        try:
            file = self._objects.as_file(key, folder)
            if file.exists():
                return file
        except ObjectGone:
            pass
        raise InvalidInput("the upload is kept no longer", "/upload")

    def _context(self, run: Run) -> CallContext:
        return CallContext(time.monotonic() + self._call_timeout_s, CALLER, CALLER, run.has_left)


class _Stop(threading.Event):
    """Set by the end of the run, or when nobody wants the result any more."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def wait(self, timeout: float | None = None) -> bool:
        return self._run.wait(timeout or 0.0) or self.is_set()
