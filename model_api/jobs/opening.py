"""What jobs are made of, opened together: the embedded stores, in one folder of a local disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import JobsDown, WorkerVanished
from model_api.jobs.documents import notice
from model_api.jobs.files.work import FileWork
from model_api.jobs.notices import SECRET_PREFIX, Notifier, key_of
from model_api.jobs.objects import FileObjects, Signer, read_secret
from model_api.jobs.presence import Presence
from model_api.jobs.queue import JobQueue
from model_api.jobs.records import SqliteRecords
from model_api.jobs.runner import Runner
from model_api.jobs.sweeping import Sweeper
from model_api.jobs.uploads import Uploads
from model_api.jobs.work import Work
from model_api.local_store.file_systems import LOCAL_TYPES, file_system_type
from model_api.serving.calls import ModelService
from model_api.settings import Settings

VANISHED = "the worker that ran the job was not heard of any more"
STUCK_GRACE_S = 60.0


@dataclass(frozen=True)
class Parts:
    """What works together once the stores are open."""

    queue: JobQueue
    runner: Runner
    notifier: Notifier
    objects: FileObjects
    uploads: Uploads
    signer: Signer
    presence: Presence

    def start(self) -> None:
        self.runner.start()
        self.notifier.start()

    def stop(self) -> None:
        self.runner.stop()
        self.notifier.stop()
        self.queue.records.close()
        self.presence.close()


def jobs_folder(settings: Settings) -> Path:
    """Beside the local store, unless the settings say where."""
    store = settings.local_store
    return settings.jobs_dir or store.with_name(f"{store.name}.jobs")


def open_embedded(
    service: ModelService,
    settings: Settings,
    problem_of: Callable[[Exception], Mapping[str, Any]],
) -> Parts:
    """Everything in one folder of a local disk. Starts nothing. Raises JobsDown."""
    folder = jobs_folder(settings)
    try:
        kind = file_system_type(folder.resolve())
        if kind and kind not in LOCAL_TYPES:
            raise JobsDown(f"{folder} lies on {kind}, and jobs need a local disk: see MODEL_API_JOBS_DIR")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JobsDown(f"jobs can't be kept in {folder} ({error.strerror})") from error
    signer = Signer(read_secret(folder / "secret"))
    objects = FileObjects(folder / "objects", signer)
    records = SqliteRecords(folder / "jobs.sqlite")
    presence = Presence(folder / "workers")
    queue = JobQueue(records, objects, max_waiting=settings.max_waiting_jobs, max_attempts=settings.job_attempts)
    uploads = Uploads(objects, records.now, max_bytes=settings.max_upload_bytes)
    file_work = FileWork(service, objects, folder / "scratch", settings.job_timeout_s)
    work = Work(
        service, queue, file_work, call_timeout_s=settings.request_timeout_s, job_timeout_s=settings.job_timeout_s
    )

    def drop_unused() -> None:
        used = queue.uploads_waited_for()
        uploads.drop_old(lambda upload_id: upload_id in used)
        file_work.drop_old()

    runner = Runner(
        queue,
        Sweeper(queue, settings.job_lease_s, problem_of(WorkerVanished(VANISHED)), presence.is_gone, drop_unused),
        work,
        problem_of,
        worker=presence.name,
        threads=settings.jobs_at_once,
        lease_s=settings.job_lease_s,
        stuck_s=settings.job_timeout_s + STUCK_GRACE_S,
    )
    secret = settings.notify_secret or read_secret(folder / "notify-secret", prefix=SECRET_PREFIX).decode()
    notifier = Notifier(records, notice, key=key_of(secret), allowed=settings.notify_networks)
    return Parts(queue, runner, notifier, objects, uploads, signer, presence)
