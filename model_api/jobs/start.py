"""The jobs of a web process: started, and what the HTTP edge asks of them."""

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from model_api.errors import InvalidInput, JobsDown, JobsFull, ModelApiError, ModelNotReady, UploadConflict
from model_api.jobs.files.predictors import CALLER
from model_api.jobs.job import Job, Payload, Status, canonical
from model_api.jobs.job import fingerprint as fingerprint_of
from model_api.jobs.notices import TOPIC_PREFIX, check_url
from model_api.jobs.objects import ObjectExists, ObjectGone, put, read
from model_api.jobs.opening import DAILY_TTL_S, Parts
from model_api.jobs.pipelines import DAILY, checked_date, pipeline_of
from model_api.jobs.queue import JobQueue
from model_api.jobs.uploads import Upload, Uploads, started_key
from model_api.jobs.videos import takes_uploads
from model_api.jobs.work import Asked, canonical_work, examine, request_for
from model_api.serving.calls import CallContext, ModelService
from model_api.settings import Settings

log = logging.getLogger(__name__)

REOPEN_S = 10.0
MAX_HANDED_OVER = 1000  # requests that timed out, remembered so that a repetition joins their job
JOINABLE = (Status.QUEUED, Status.RUNNING, Status.SUCCEEDED)
HAND_OVER_TTL_S = 3600.0
HAND_OVER_WAITING = 100  # jobs waiting by then: more of them help nobody


class Jobs:
    """For the HTTP edge; any thread. Where the stores can't be opened, everything else is served, and jobs answer
    JobsDown until they can."""

    def __init__(self, service: ModelService, settings: Settings, open_parts: Callable[[], Parts]) -> None:
        """Opens and starts nothing yet."""
        self._service = service
        self._settings = settings
        self._open_parts = open_parts
        self._parts: Parts | None = None
        self._why = "jobs are being started"
        self._stopping = threading.Event()
        self._opener = threading.Thread(target=self._reopen, name="jobs-opener", daemon=True)
        self.handed_over: OrderedDict[str, str] = OrderedDict()  # -> the job's id
        self._lock = threading.Lock()
        # Each of them holds a thread that others need.
        self._waiting_callers = threading.BoundedSemaphore(max(1, settings.max_queue_entries // 2))
        self._uploads_coming = threading.BoundedSemaphore(max(1, settings.max_queue_entries // 4))

    def start(self) -> None:
        if not self._try_to_open():
            self._opener.start()

    def drain(self) -> None:
        """Start no job from now on; running ones are put back."""
        self._stopping.set()
        if self._parts is not None:
            self._parts.runner.drain()

    def stop(self) -> None:
        self.drain()
        if self._opener.is_alive():
            self._opener.join()
        if self._parts is not None:
            self._parts.stop()

    @property
    def parts(self) -> Parts:
        """Raises JobsDown."""
        if self._parts is None:
            raise JobsDown(self._why)
        return self._parts

    @property
    def queue(self) -> JobQueue:
        """Raises JobsDown."""
        return self.parts.queue

    def submit(
        self,
        kind: str,
        body: Mapping[str, Any],
        context: CallContext,
        *,
        owner: str = "",
        ttl_s: float | None = None,
        notify: str | None = None,
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        """The job that does this work, and whether this request started it. `body` has the route's shape.

        Raises what the route would for that body, InvalidInput for the rest, JobsFull, JobsDown.
        """
        queue = self.queue
        if notify is not None:
            if self.parts.notifier is None:
                raise InvalidInput(
                    "nobody can be told: the server has no MODEL_API_NOTIFY_SECRET to sign with", "/notify"
                )
            check_url(notify, self._settings.notify_networks)
        upload = body.get("upload")
        if upload is not None:
            body = {**body, "file": self.parts.uploads.get(upload, owner)}
            if takes_uploads(kind) and body.get("model") is None:
                body["model"] = self.model_for(kind)
        asked = examine(self._service, self.parts.objects, kind, body, context)
        return queue.submit(
            request_for(
                kind,
                asked,
                upload=upload,
                owner=owner,
                ttl_s=self._settings.job_ttl_s if ttl_s is None else ttl_s,
                idempotency_key=idempotency_key,
                notify=notify,
            )
        )

    def submit_daily(self, name: str, day: str | None, owner: str) -> tuple[Job, bool]:
        """The job of that pipeline for that day (today), and whether this request began it: twice is harmless.

        Raises InvalidInput, JobsFull, JobsDown.
        """
        queue, settings = self.queue, self._settings
        pipeline = pipeline_of(settings.pipelines, name)
        day = checked_date(day, queue.records.now())
        if pipeline.notify is not None and not pipeline.notify.startswith(TOPIC_PREFIX):
            check_url(pipeline.notify, settings.notify_networks)
        asked = Asked(DAILY, {"call": DAILY, "pipeline": name, "date": day}, None, False, 0, "rows")
        key = f"{DAILY} {name} {day}"
        more: dict[str, Any] = {"idempotency_key": key, "notify": pipeline.notify}
        ttl_s = max(settings.job_ttl_s, DAILY_TTL_S)
        return queue.submit(request_for(DAILY, asked, upload=None, owner=owner, ttl_s=ttl_s, **more))

    def wait(
        self,
        job: Job,
        timeout_s: float,
        has_left: Callable[[], bool],
        until: Callable[[Job], bool] = lambda job: job.is_over,
    ) -> Job:
        """The job as soon as `until` holds, or as it is after `timeout_s`, or at once when too many wait already.

        Raises UnknownJob, JobsDown.
        """
        if timeout_s <= 0 or until(job) or not self._waiting_callers.acquire(blocking=False):
            return job
        try:
            return self.queue.wait(job.id, job.owner, timeout_s, lambda seen: until(seen) or has_left())
        finally:
            self._waiting_callers.release()

    def cancel(self, job_id: str, owner: str) -> Job:
        """Raises UnknownJob, JobOver, JobExpired, JobsDown."""
        job = self.queue.cancel(job_id, owner)
        self.parts.runner.forget(job_id)
        return job

    def hand_over(self, kind: str, body: Mapping[str, Any], context: CallContext, owner: str) -> Job | None:
        """The job that goes on with a request that timed out; None where there can't be one."""
        try:
            if self.queue.records.count_waiting() >= HAND_OVER_WAITING:
                return None
            job, _ = self.submit(kind, body, context, owner=owner, ttl_s=HAND_OVER_TTL_S)
        except ModelApiError:
            return None
        with self._lock:
            self.handed_over[self._handle(kind, body, owner)] = job.id
            while len(self.handed_over) > MAX_HANDED_OVER:
                self.handed_over.popitem(last=False)
        return job

    def take_up(self, kind: str, body: Mapping[str, Any], context: CallContext, owner: str) -> Job | None:
        """The job that a request like this one became when it timed out here, if the same weights would still answer.
        Raises what the route would for that body."""
        handle = self._handle(kind, body, owner)
        job_id = self.handed_over.get(handle)
        if job_id is None:
            return None
        weights = examine(self._service, self.parts.objects, kind, body, context).weights
        try:
            job = self.queue.get(job_id, owner)
        except ModelApiError:
            job = None
        if job is None or job.status not in JOINABLE or (weights is not None and weights.digest != job.digest):
            job = None
        if job is None or job.status == Status.SUCCEEDED:  # once: asked again after that, it is another request
            with self._lock:
                self.handed_over.pop(handle, None)
        return job

    @contextlib.contextmanager
    def taking_in(self) -> Iterator[Uploads]:
        """Around an upload that comes in to this server. Raises JobsFull where too many do."""
        if not self._uploads_coming.acquire(blocking=False):
            raise JobsFull("too many uploads are coming in already")
        try:
            yield self.parts.uploads
        finally:
            self._uploads_coming.release()

    def start_job_of(self, upload: Upload) -> str:
        """Start the job that came with an upload; its id. Raises as `submit`."""
        assert upload.job is not None
        body = {"model": None, "parameters": {}, **upload.job, "upload": upload.id}
        kind, ttl_s, notify = (body.pop(name, None) for name in ("kind", "ttl_s", "notify"))
        deadline = time.monotonic() + self._settings.request_timeout_s
        context = CallContext(deadline, CALLER, upload.owner or CALLER, lambda: False)
        job, _ = self.submit(kind, body, context, owner=upload.owner, ttl_s=ttl_s, notify=notify)
        with contextlib.suppress(ObjectExists):  # the first one stays
            put(self.parts.objects, started_key(upload.id), job.id.encode(), "text/plain")
        return job.id

    def score_of(self, upload_id: str, owner: str) -> Payload | None:
        """What the job of an upload gave, None as long as it hasn't ended, or the bytes haven't come. Raises what kept
        it from a result, and UnknownUpload, UploadExpired, JobsDown."""
        try:
            upload = self.parts.uploads.get(upload_id, owner)
        except UploadConflict:
            return None
        if upload.job is None:
            raise UploadConflict(f"no job came with upload {upload_id[:16]}")
        try:
            job_id = read(self.parts.objects, started_key(upload.id)).decode()
        except ObjectGone:
            job_id = self.start_job_of(upload)
        job = self.queue.get(job_id, owner)
        return self.queue.result(job) if job.is_over else None

    def model_for(self, kind: str) -> str:
        """The model of a job on an upload that names none. Raises InvalidInput, ModelNotReady."""
        if self._settings.video_model:
            return self._settings.video_model
        names = [model["name"] for model in self._service.models() if model.get("task") == kind]
        if len(names) == 1:
            return str(names[0])
        found = f"there are {len(names)} for {kind} ({', '.join(sorted(names))})" if names else f"none serves {kind}"
        if not names and not self._service.readiness().ready:
            raise ModelNotReady(kind, "no such model is loaded yet")
        raise InvalidInput(f'name the model: "model" is missing and {found}', "/model")

    @staticmethod
    def _handle(kind: str, body: Mapping[str, Any], owner: str) -> str:
        return fingerprint_of({"owner": owner, "work": canonical(canonical_work(kind, body)).decode()})

    def _try_to_open(self) -> bool:
        try:
            parts = self._open_parts()
        except JobsDown as error:
            if str(error) != self._why:
                log.error("jobs can't be kept", extra={"fields": {"error": str(error)}})
            self._why = str(error)
            return False
        parts.start()
        self._parts = parts
        return True

    def _reopen(self) -> None:
        while not self._stopping.wait(REOPEN_S):
            if self._try_to_open():
                return
