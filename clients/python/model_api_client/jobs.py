"""Jobs: work that outlives its request, with and without asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

from model_api_client import _calls
from model_api_client._calls import JobOrId, JobProgress
from model_api_client._files import Landing
from model_api_client._flows import Flow, Patience, Progress
from model_api_client.results import Job


class Jobs:
    """Work that outlives its request: `client.jobs`. A job is given as a Job or as its id."""

    def __init__(self, run: Callable[[Flow[Any]], Any], patience: Patience) -> None:
        self._run = run
        self._patience = patience

    def submit(
        self,
        kind: str,
        *,
        ttl_s: float | None = None,
        notify: str | None = None,
        idempotency_key: str | None = None,
        **work: Any,
    ) -> Job:
        """Ask for work: `kind` is predict, sim, score, file, daily or a task; `work` is what its route takes (model,
        inputs, parameters, ...). The same work again is the same job."""
        body = {"kind": kind, "ttl_s": ttl_s, "notify": notify, **work}
        found: Job = self._run(_calls.submit(self._patience, body, idempotency_key))
        return found

    def submit_file(
        self,
        path: str | Path,
        model: str,
        column: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Send a CSV or JSONL file, and have its `column` predicted. `progress(sent, total)` in bytes."""
        found: Job = self._run(_calls.submit_file(self._patience, Path(path), model, column, parameters, progress))
        return found

    def get(self, job: JobOrId) -> Job:
        """The job as it is now."""
        found: Job = self._run(_calls.get_job(self._patience, job))
        return found

    def list(self, *, status: str | None = None, kind: str | None = None, page_size: int = 50) -> Iterator[Job]:
        """All jobs, newest first, a page at a time."""
        after: str | None = None
        while True:
            page, after = self._run(_calls.list_jobs(self._patience, status, kind, after, page_size))
            yield from page
            if after is None:
                return

    def wait(self, job: JobOrId, timeout_s: float | None = None, *, progress: JobProgress | None = None) -> Job:
        """The job once it is over, well or not. Raises TooLate; the job goes on."""
        found: Job = self._run(_calls.wait(self._patience, job, timeout_s, progress))
        return found

    def result(self, job: JobOrId, timeout_s: float | None = None, *, progress: JobProgress | None = None) -> Any:
        """What it gave, once it is over: a Prediction, Similarity or Scores, of a file its bytes. Raises JobFailed,
        JobCancelled, JobExpired or TooLate.

        >>> job = client.jobs.submit("sim", target="A cat.", texts=["A kitten."])
        >>> len(client.jobs.result(job, timeout_s=60))
        1
        """
        return self._run(_calls.result(self._patience, job, timeout_s, progress))

    def download(self, job: JobOrId, out: str | Path) -> Path:
        """Write the result of a job that is over into a file, whatever its size; the file is there when it is whole."""
        with Landing(Path(out)) as landing:
            self._run(_calls.download(self._patience, job, landing.file))
        return landing.target

    def cancel(self, job: JobOrId) -> Job:
        """Cancel it, running or not. Raises JobOver."""
        found: Job = self._run(_calls.cancel(self._patience, job))
        return found

    def retry(self, job: JobOrId) -> Job:
        """Try one again that failed or was cancelled."""
        found: Job = self._run(_calls.retry(self._patience, job))
        return found


class AsyncJobs:
    """Work that outlives its request: `client.jobs`. A job is given as a Job or as its id."""

    def __init__(self, run: Callable[[Flow[Any]], Awaitable[Any]], patience: Patience) -> None:
        self._run = run
        self._patience = patience

    async def submit(
        self,
        kind: str,
        *,
        ttl_s: float | None = None,
        notify: str | None = None,
        idempotency_key: str | None = None,
        **work: Any,
    ) -> Job:
        """Ask for work: `kind` is predict, sim, score, file, daily or a task; `work` is what its route takes (model,
        inputs, parameters, ...). The same work again is the same job."""
        body = {"kind": kind, "ttl_s": ttl_s, "notify": notify, **work}
        found: Job = await self._run(_calls.submit(self._patience, body, idempotency_key))
        return found

    async def submit_file(
        self,
        path: str | Path,
        model: str,
        column: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Send a CSV or JSONL file, and have its `column` predicted. `progress(sent, total)` in bytes."""
        found: Job = await self._run(
            _calls.submit_file(self._patience, Path(path), model, column, parameters, progress)
        )
        return found

    async def get(self, job: JobOrId) -> Job:
        """The job as it is now."""
        found: Job = await self._run(_calls.get_job(self._patience, job))
        return found

    async def list(
        self, *, status: str | None = None, kind: str | None = None, page_size: int = 50
    ) -> AsyncIterator[Job]:
        """All jobs, newest first, a page at a time."""
        after: str | None = None
        while True:
            page, after = await self._run(_calls.list_jobs(self._patience, status, kind, after, page_size))
            for job in page:
                yield job
            if after is None:
                return

    async def wait(self, job: JobOrId, timeout_s: float | None = None, *, progress: JobProgress | None = None) -> Job:
        """The job once it is over, well or not. Raises TooLate; the job goes on."""
        found: Job = await self._run(_calls.wait(self._patience, job, timeout_s, progress))
        return found

    async def result(self, job: JobOrId, timeout_s: float | None = None, *, progress: JobProgress | None = None) -> Any:
        """What it gave, once it is over: a Prediction, Similarity or Scores, of a file its bytes. Raises JobFailed,
        JobCancelled, JobExpired or TooLate."""
        return await self._run(_calls.result(self._patience, job, timeout_s, progress))

    async def download(self, job: JobOrId, out: str | Path) -> Path:
        """Write the result of a job that is over into a file, whatever its size; the file is there when it is whole."""
        with Landing(Path(out)) as landing:
            await self._run(_calls.download(self._patience, job, landing.file))
        return landing.target

    async def cancel(self, job: JobOrId) -> Job:
        """Cancel it, running or not. Raises JobOver."""
        found: Job = await self._run(_calls.cancel(self._patience, job))
        return found

    async def retry(self, job: JobOrId) -> Job:
        """Try one again that failed or was cancelled."""
        found: Job = await self._run(_calls.retry(self._patience, job))
        return found
