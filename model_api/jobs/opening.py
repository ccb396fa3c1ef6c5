"""What jobs are made of, opened together: the embedded stores in one folder of a local disk, or a fleet's."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import JobsDown, WorkerVanished
from model_api.jobs.daily import Daily
from model_api.jobs.documents import notice
from model_api.jobs.files.parts import Sharing
from model_api.jobs.files.work import FileWork
from model_api.jobs.job import Job
from model_api.jobs.notices import SECRET_PREFIX, Notifier, key_of
from model_api.jobs.objects import FileObjects, Objects, Signer, read_secret
from model_api.jobs.pipelines import Pipeline
from model_api.jobs.presence import Presence
from model_api.jobs.queue import JobQueue
from model_api.jobs.records import SqliteRecords
from model_api.jobs.runner import TICK_S, Runner
from model_api.jobs.sweeping import Sweeper
from model_api.jobs.uploads import VALID_S, Address, Upload, Uploads
from model_api.jobs.videos import VideoWork
from model_api.jobs.work import FILE, Work, examine, request_for
from model_api.local_store.file_systems import LOCAL_TYPES, file_system_type
from model_api.serving.calls import UNGUARDED, CallContext, Guard, ModelService
from model_api.settings import Settings
from model_api.settings.folders import jobs_folder

VANISHED = "the worker that ran the job was not heard of any more"
STUCK_GRACE_S = 60.0
DAILY_TTL_S = 7 * 86400.0  # so that a week's results can be looked at


Described = Callable[[Exception], Mapping[str, Any]]
UploadAddress = Callable[[Upload, bool], Address]  # an upload, and whether a form is to send it


@dataclass(frozen=True)
class Local:
    """What only the embedded stores have: objects that this server gives out and takes in, by signed addresses."""

    objects: FileObjects
    signer: Signer

    def upload_address(self, upload: Upload, by_form: bool) -> Address:
        """A path of this server; it takes no forms."""
        path = f"/uploads/{upload.id}"
        headers = {"Content-Type": upload.content_type}
        if upload.size is not None:
            headers["Content-Length"] = str(upload.size)
        return Address("PUT", f"{path}?{self.signer.query('PUT', path, int(upload.expires))}", headers)


@dataclass(frozen=True)
class Parts:
    """What works together once the stores are open."""

    queue: JobQueue
    runner: Runner
    sweeper: Sweeper
    notifier: Notifier | None  # None: nobody can be told, since there is no key to sign with
    uploads: Uploads
    upload_address: UploadAddress
    local: Local | None
    close: Callable[[], None]

    @property
    def objects(self) -> Objects:
        return self.queue.objects

    def start(self) -> None:
        self.runner.start()
        if self.notifier is not None:
            self.notifier.start()

    def stop(self) -> None:
        self.runner.stop()
        if self.notifier is not None:
            self.notifier.stop()
        self.queue.records.close()
        self.close()


def open_jobs(
    service: ModelService,
    settings: Settings,
    problem_of: Described,
    guard_of: Callable[[str], Guard] = lambda owner: UNGUARDED,
) -> Parts:
    """As the settings say; `guard_of` is told what the jobs of an owner cost. Starts nothing. Raises JobsDown."""
    opened = open_embedded if settings.jobs_table is None else open_fleet
    parts = opened(service, settings, problem_of)
    parts.runner.guard_of = guard_of
    return parts


def open_embedded(service: ModelService, settings: Settings, problem_of: Described) -> Parts:
    """Everything in one folder of a local disk. Starts nothing. Raises JobsDown."""
    folder = _made(jobs_folder(settings))
    kind = file_system_type(folder.resolve())
    if kind and kind not in LOCAL_TYPES:
        raise JobsDown(f"{folder} lies on {kind}, and jobs need a local disk: see MODEL_API_JOBS_DIR")
    local = Local(FileObjects(folder / "objects", signer := Signer(read_secret(folder / "secret"))), signer)
    records = SqliteRecords(folder / "jobs.sqlite")
    presence = Presence(folder / "workers")
    queue = JobQueue(records, local.objects, max_waiting=settings.max_waiting_jobs, max_attempts=settings.job_attempts)
    secret = settings.notify_secret or read_secret(folder / "notify-secret", prefix=SECRET_PREFIX).decode()
    return _assembled(
        service,
        settings,
        problem_of,
        queue,
        scratch=folder / "scratch",
        worker=presence.name,
        is_gone=presence.is_gone,
        threads=settings.jobs_at_once,
        sweep_every_s=TICK_S,
        secret=secret,
        upload_address=local.upload_address,
        local=local,
        close=presence.close,
    )


def open_fleet(service: ModelService, settings: Settings, problem_of: Described) -> Parts:
    """DynamoDB, S3 and, where there is a queue, workers elsewhere that SQS wakes. Starts nothing. Raises JobsDown."""
    try:
        from model_api.jobs.fleet.objects import S3Objects
        from model_api.jobs.fleet.records import DynamoRecords
        from model_api.jobs.fleet.wakeup import SqsWakeup
    except ImportError as error:
        raise JobsDown("MODEL_API_JOBS_TABLE is set, and boto3 isn't installed: see requirements-fleet.txt") from error
    if settings.jobs_table is None or settings.jobs_bucket is None:
        raise JobsDown("MODEL_API_JOBS_TABLE and MODEL_API_JOBS_BUCKET go together")
    records, objects = DynamoRecords(settings.jobs_table), S3Objects(settings.jobs_bucket)
    queue = JobQueue(
        records,
        objects,
        max_waiting=settings.max_waiting_jobs,
        max_attempts=settings.job_attempts,
        wakeup=SqsWakeup(settings.jobs_queue_url) if settings.jobs_queue_url else None,
    )

    def upload_address(upload: Upload, by_form: bool) -> Address:
        asked = (upload.key, upload.content_type, upload.size)
        if by_form:
            url, fields = objects.upload_form(*asked, settings.max_upload_bytes, VALID_S)
            return Address("POST", url, fields=fields)
        url, headers = objects.upload_address(*asked, VALID_S)
        return Address("PUT", url, headers)

    return _assembled(
        service,
        settings,
        problem_of,
        queue,
        scratch=_made(jobs_folder(settings)) / "scratch",
        worker=f"{settings.instance}-{secrets.token_hex(4)}",
        is_gone=lambda worker: False,
        # With a queue, jobs are run where its messages are posted to.
        threads=settings.jobs_at_once if settings.jobs_queue_url is None else 0,
        sweep_every_s=settings.job_lease_s / 3,
        secret=settings.notify_secret,
        upload_address=upload_address,
        local=None,
        close=lambda: None,
    )


def _sharing(queue: JobQueue, local: Local | None) -> Sharing | None:
    """Files are shared where there are other machines to share with."""
    return Sharing(queue) if local is None else None


def _publish_to_topic(arn: str, subject: str, body: bytes) -> None:
    """Raises JobsDown, without boto3 too."""
    try:
        from model_api.jobs.fleet.topics import publish
    except ImportError as error:
        raise JobsDown("a topic of SNS is to be told, and boto3 isn't installed: see requirements-fleet.txt") from error
    publish(arn, subject, body)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JobsDown(f"jobs can't be kept in {folder} ({error.strerror})") from error
    return folder


def _assembled(
    service: ModelService,
    settings: Settings,
    problem_of: Described,
    queue: JobQueue,
    *,
    scratch: Path,
    worker: str,
    is_gone: Callable[[str], bool],
    threads: int,
    sweep_every_s: float,
    secret: str | None,
    upload_address: UploadAddress,
    local: Local | None,
    close: Callable[[], None],
) -> Parts:
    uploads = Uploads(queue.objects, queue.records.now, max_bytes=settings.max_upload_bytes)
    sharing = _sharing(queue, local)
    file_work = FileWork(service, queue.objects, scratch, settings.job_timeout_s, sharing)
    video_work = VideoWork(service, queue.objects, scratch, settings.job_timeout_s)

    def drop_unused() -> None:
        used = queue.uploads_waited_for()
        uploads.drop_old(lambda upload_id: upload_id in used)
        file_work.drop_old()
        if sharing is not None:
            sharing.drop_old()

    def submit(pipeline: Pipeline, upload: Upload, context: CallContext) -> Job:
        parameters = {**pipeline.parameters, "column": pipeline.column}
        body = {"model": pipeline.model, "file": upload, "parameters": parameters}
        asked = examine(service, queue.objects, FILE, body, context)
        ttl_s = max(settings.job_ttl_s, DAILY_TTL_S)
        return queue.submit(request_for(FILE, asked, upload=upload.id, owner=upload.owner, ttl_s=ttl_s))[0]

    sweeper = Sweeper(queue, settings.job_lease_s, problem_of(WorkerVanished(VANISHED)), is_gone, drop_unused)
    timeouts = {"call_timeout_s": settings.request_timeout_s, "job_timeout_s": settings.job_timeout_s}
    runner = Runner(
        queue,
        sweeper,
        Work(service, queue, file_work, video_work, Daily(service, queue, uploads, settings, submit), **timeouts),
        problem_of,
        worker=worker,
        threads=threads,
        lease_s=settings.job_lease_s,
        stuck_s=settings.job_timeout_s + STUCK_GRACE_S,
        sweep_every_s=sweep_every_s,
    )
    notifier = None
    if secret is not None:
        networks = settings.notify_networks
        notifier = Notifier(queue.records, notice, key=key_of(secret), allowed=networks, publish=_publish_to_topic)
    return Parts(queue, runner, sweeper, notifier, uploads, upload_address, local, close)
