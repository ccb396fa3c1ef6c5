"""What a pipeline's job does: reads the source, has its rows predicted by a file's job, scores, and sums up."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast

import orjson

from model_api.errors import CallerLeft, InvalidInput, JobFailed, JobsDown
from model_api.jobs import feeds, sources
from model_api.jobs.files.predictors import CALLER
from model_api.jobs.files.tables import CSV, ERROR, JSON_LINES, PREDICTION, open_reader
from model_api.jobs.job import Job, Status
from model_api.jobs.pipelines import Pipeline, pipeline_of
from model_api.jobs.queue import JobQueue
from model_api.jobs.runner import Outcome, Run
from model_api.jobs.uploads import CHUNK_BYTES, Upload, Uploads
from model_api.serving.calls import CallContext, ModelService
from model_api.serving.documents import dump
from model_api.serving.text_scores import mean_scores
from model_api.settings import Settings

LOOK_S = 1.0
SCORED_AT_ONCE = 64
MAX_SCORED = 10_000  # rows; scoring texts costs more than many a model
MAX_LABELS = 100  # that are counted
MAX_LABEL_CHARS = 64  # a longer prediction is a text

Submit = Callable[[Pipeline, Upload, CallContext], Job]


class Daily:
    """Does pipelines' jobs, on the runner's threads."""

    def __init__(
        self, service: ModelService, queue: JobQueue, uploads: Uploads, settings: Settings, submit: Submit
    ) -> None:
        """`submit` asks for the job of a file that came."""
        self._service, self._queue, self._uploads = service, queue, uploads
        self._settings, self._submit = settings, submit

    def __call__(self, run: Run, work: Mapping[str, Any]) -> Outcome:
        """Raises InvalidInput, JobFailed, JobsDown, what the model's calls raise, and CallerLeft."""
        pipeline = pipeline_of(self._settings.pipelines, work["pipeline"])
        upload = self._read(run.job.owner, pipeline)
        asked = self._submit(pipeline, upload, self._context(run))
        done = self._finished(run, asked.id, asked.owner)
        summary = {
            "pipeline": work["pipeline"],
            "date": work["date"],
            "rows": done.progress.total,
            "errors": done.progress.errors,
            **self._summed_up(run, pipeline, done),
            "predictions": f"/jobs/{done.id}/result",
        }
        return Outcome(dump(summary), {"model": done.model, "version": done.version, "digest": done.digest})

    def _read(self, owner: str, pipeline: Pipeline) -> Upload:
        """The source's rows, kept as an upload."""
        settings = self._settings
        with tempfile.TemporaryFile() as plain:
            copy = cast(BinaryIO, plain)
            sources.fetch(
                pipeline.source,
                copy,
                allowed=settings.sources,
                networks=settings.notify_networks,
                max_bytes=settings.max_upload_bytes,
            )
            copy.seek(0)
            chunks: Iterator[bytes] = iter(lambda: copy.read(CHUNK_BYTES), b"")
            if pipeline.form == "feed":
                chunks = (orjson.dumps(row) + b"\n" for row in feeds.rows(copy))
            asked = self._uploads.ask(owner, pipeline.content_type, None, None, None)
            return self._uploads.receive(asked.id, None, chunks)

    def _finished(self, run: Run, job_id: str, owner: str) -> Job:
        """The file's job once it is over: done here, unless somebody else does it."""
        while True:
            if run.has_left():
                raise CallerLeft("nobody waits for this pipeline")
            run.run_also(job_id)
            job = self._queue.get(job_id, owner)
            run.advance(job.progress.done, job.progress.total, "rows", job.progress.errors)
            if job.status == Status.SUCCEEDED:
                return job
            if job.status == Status.FAILED:
                raise JobFailed(job.error or {})
            if job.is_over:
                raise JobsDown(f"the job of its rows has {job.status}")
            run.wait(LOOK_S)

    def _summed_up(self, run: Run, pipeline: Pipeline, done: Job) -> dict[str, Any]:
        """How often each label, and how well the predictions fit the references."""
        assert done.result is not None
        labels: Counter[str] = Counter()
        scored: list[dict[str, float]] = []
        pairs: list[tuple[str, str]] = []
        right = compared = 0
        form = CSV if pipeline.form == "csv" else JSON_LINES
        with self._queue.objects.reader(done.result.key or "") as stream:
            for row in open_reader(form, stream, PREDICTION):
                text = _shown(row.values.get(PREDICTION))
                if row.values.get(ERROR) or text is None:
                    continue
                if len(text) <= MAX_LABEL_CHARS and (text in labels or len(labels) < MAX_LABELS):
                    labels[text] += 1
                reference = row.values.get(pipeline.reference or "")
                if pipeline.reference is None or not isinstance(reference, str) or not reference:
                    continue
                compared += 1
                right += reference == text
                if compared <= MAX_SCORED:
                    pairs.append((reference, text))
                if len(pairs) == SCORED_AT_ONCE:
                    scored += self._scores(run, pairs)
                    pairs = []
        scored += self._scores(run, pairs)
        found: dict[str, Any] = {"labels": dict(labels.most_common())}
        if compared:
            found |= {"accuracy": right / compared, "scores": mean_scores(scored), "scored": len(scored)}
        return found

    def _scores(self, run: Run, pairs: list[tuple[str, str]]) -> list[dict[str, float]]:
        if not pairs:
            return []
        targets, predictions = ([pair[side] for pair in pairs] for side in (0, 1))
        try:
            return self._service.scores(targets, predictions, "/predictions", self._context(run))
        except InvalidInput:  # texts that are too long to be scored at this price
            return []

    def _context(self, run: Run) -> CallContext:
        deadline = time.monotonic() + self._settings.job_timeout_s
        return CallContext(deadline, CALLER, CALLER, run.has_left)


def _shown(prediction: Any) -> str | None:
    """The label or the text of a prediction, as the result's file has it; None for vectors."""
    if isinstance(prediction, Mapping):
        prediction = prediction.get("label", prediction.get("text"))
    if not isinstance(prediction, str) or prediction.startswith("["):
        return None
    return prediction
