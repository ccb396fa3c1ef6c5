"""A whole file as a job of a running server: sent, waited for, and fetched. `scripts/predict --job` does it."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin

from model_api.jobs.files.predictors import Hopeless
from model_api.jobs.files.run import Done
from model_api.jobs.files.run import Job as FileRun
from model_api.jobs.files.tables import CSV, ERROR, open_reader
from model_api.repository.environment import key_headers

TYPES = {CSV: "text/csv"}
JSON_LINES_TYPE = "application/jsonl"
TIMEOUT_S = 120.0
WAIT_S = 20
PATIENCE_S = 300.0  # of a server that doesn't answer
PAUSE_S = 2.0


def run_as_job(
    url: str, file_run: FileRun, model: str, parameters: Mapping[str, Any], progress: Callable[[int, int, int], None]
) -> Done:
    """Send the file, wait for the job's end, and write its result to the target.

    The job goes on without us: run again, the same file is the same job. Raises Hopeless, OSError.
    """
    base = url.rstrip("/") + "/"
    size = file_run.source.stat().st_size
    job_id = _send(base, file_run, size, model, parameters)
    finished(base, job_id, lambda done, total: progress(done, size * done // max(1, total), size))
    aside = file_run.target.with_name(file_run.target.name + ".part")
    with _open("GET", urljoin(base, f"jobs/{job_id}/result")) as answer, aside.open("wb") as copy:
        shutil.copyfileobj(answer, copy)
    aside.replace(file_run.target)
    return _counted(file_run)


def finished(base: str, job_id: str, progress: Callable[[int, int], None]) -> Any:
    """The job once it has succeeded; `progress(done, total)` meanwhile. Raises Hopeless, OSError."""
    while True:
        job = ask("GET", urljoin(base, f"jobs/{job_id}?wait={WAIT_S}"))
        progress(job["progress"]["done"], job["progress"]["total"])
        if job["status"] == "succeeded":
            return job
        if job["status"] not in ("queued", "running"):
            raise Hopeless(f"the job has {job['status']}: {(job.get('error') or {}).get('detail', 'nothing is told')}")


def _send(base: str, file_run: FileRun, size: int, model: str, parameters: Mapping[str, Any]) -> str:
    """The id of the job that works on the file."""
    media_type = TYPES.get(file_run.form, JSON_LINES_TYPE)
    work = {"kind": "file", "model": model, "parameters": {**parameters, "column": file_run.column}}
    asked = ask("POST", urljoin(base, "uploads"), {"content_type": media_type, "size": size, "job": work})
    with file_run.source.open("rb") as stream:
        to = asked["method"], asked["url"], stream, asked["headers"]
        with _open(*to, ours=False) as answer:  # signed for whoever has it
            text = answer.read()
    # Sent into a bucket, the server hears of it later; then the job is asked for by itself.
    sent = json.loads(text) if text.startswith(b"{") else {}
    if "job_error" in sent:
        raise Hopeless(str(sent["job_error"].get("detail")))
    if "job" in sent:
        return str(sent["job"])
    return str(ask("POST", urljoin(base, "jobs"), {**work, "upload": asked["id"]})["id"])


def ask(method: str, url: str, body: Mapping[str, Any] | None = None, more: Mapping[str, str] | None = None) -> Any:
    """The answer's JSON; `more` are headers. Asked again for a while where nothing answers, or says to come back
    later."""
    data = None if body is None else json.dumps(body).encode()
    headers = {**({} if data is None else {"Content-Type": "application/json"}), **(more or {})}
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            with _open(method, url, data, headers) as answer:
                return json.loads(answer.read())
        except (OSError, HTTPException) as error:
            if time.monotonic() > give_up:
                raise Hopeless(f"{url.partition('?')[0]} doesn't answer ({error})") from error
            time.sleep(PAUSE_S)


def _open(
    method: str, url: str, data: Any = None, headers: Mapping[str, str] | None = None, *, ours: bool = True
) -> Any:
    """The answer, redirections followed. `ours`: it is the server's own address, which hears the key. Raises Hopeless
    for what the server refuses, OSError for what may pass."""
    if not url.startswith(("http://", "https://")):
        raise Hopeless(f"{url!r} is not an http(s) address")
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310 - checked above
    for name, value in key_headers().items() if ours else ():
        request.add_unredirected_header(name, value)  # a bucket that a result lies in is not told
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
        if error.code in (429, 502, 503, 504):
            raise OSError(f"status {error.code}") from None
        try:
            detail = json.loads(text)["detail"]
        except (ValueError, LookupError, TypeError):
            detail = f"status {error.code}"
        raise Hopeless(str(detail)) from None


def _counted(file_run: FileRun) -> Done:
    rows = errors = 0
    with file_run.target.open("rb") as stream:
        for row in open_reader(file_run.form, stream, ERROR):
            rows += 1
            errors += bool(row.values.get(ERROR))
    return Done(rows, errors)
