"""The calls of the API as flows: what each sends, and what its answer means."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Callable, Union
from urllib.parse import quote

import httpx

from model_api_client._flows import FileStream, Flow, Patience, Pause, Progress, Request, document_of, exchange
from model_api_client._problems import problem_of
from model_api_client._readings import read_prediction, read_scores, read_similarity, weights_of
from model_api_client.errors import JobCancelled, JobExpired, JobFailed, TooLate
from model_api_client.results import Job, Model, Prediction, Ranked, Ranking, Scores, Similarity, Upload

WAIT_S = 20.0  # for which the server holds an answer back
LOOK_S = 0.25  # between two looks at a job whose progress is shown
JobProgress = Callable[[Job], None]
JobOrId = Union[Job, str]
_TYPES = {
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
}
_JOB_ERRORS = {"cancelled": JobCancelled, "expired": JobExpired, "failed": JobFailed}


def _body(**fields: Any) -> dict[str, Any]:
    """Without what wasn't given, so that a server's default is the server's."""
    return {name: value for name, value in fields.items() if value is not None}


def _ask(
    patience: Patience, path: str, body: Mapping[str, Any], no_cache: bool = False
) -> Flow[tuple[Any, httpx.Response]]:
    headers = {"Cache-Control": "no-cache"} if no_cache else {}
    response = yield from exchange(Request("POST", path, body, headers=headers), patience)
    return document_of(response), response


def predict(
    patience: Patience, model: str, inputs: Any, parameters: Mapping[str, Any] | None, no_cache: bool
) -> Flow[Prediction]:
    body = _body(model=model, inputs=inputs, parameters=parameters)
    document, response = yield from _ask(patience, "/predict", body, no_cache)
    return read_prediction(document, response.headers)


def sim(
    patience: Patience,
    target: str,
    texts: Iterable[str],
    model: str | None,
    parameters: Mapping[str, Any] | None,
    no_cache: bool,
) -> Flow[Similarity]:
    body = _body(target=target, texts=_texts(texts), model=model, parameters=parameters)
    if parameters and parameters.get("truncate"):
        body["list_truncated"] = True
    document, response = yield from _ask(patience, "/sim", body, no_cache)
    return read_similarity(document, response.headers)


def rerank(
    patience: Patience,
    query: str,
    texts: Iterable[str],
    model: str | None,
    top_k: int | None,
    parameters: Mapping[str, Any] | None,
    no_cache: bool,
) -> Flow[Ranking]:
    given = _texts(texts)
    body = _body(query=query, texts=given, model=model, parameters=parameters, top_k=top_k)
    document, response = yield from _ask(patience, "/rerank", body, no_cache)
    scores = document["scores"]
    best = document.get("top") or [
        {"index": i, "score": scores[i]} for i in sorted(range(len(scores)), key=lambda i: -float(scores[i]))
    ]
    return Ranking(
        **weights_of(document, response.headers),
        query=query,
        texts=given,
        scores=scores,
        top=[Ranked(row["index"], row["score"], given[row["index"]]) for row in best],
        tokens=document["usage"]["tokens"],
        truncated=document.get("truncated", False),
    )


def score(
    patience: Patience,
    targets: Iterable[str],
    predictions: Iterable[str] | None,
    model: str | None,
    inputs: Iterable[Any] | None,
    parameters: Mapping[str, Any] | None,
) -> Flow[Scores]:
    body = _body(
        targets=_texts(targets),
        predictions=None if predictions is None else _texts(predictions),
        model=model,
        inputs=None if inputs is None else list(inputs),
        parameters=parameters,
    )
    document, response = yield from _ask(patience, "/score", body)
    return read_scores(document, response.headers)


def models(patience: Patience) -> Flow[list[Model]]:
    response = yield from exchange(Request("GET", "/models"), patience)
    return [Model.read(row) for row in document_of(response)["models"] if "name" in row and "state" in row]


def model(patience: Patience, name: str) -> Flow[Model]:
    response = yield from exchange(Request("GET", "/models/" + _segment(name)), patience)
    return Model.read(document_of(response))


def submit(patience: Patience, body: Mapping[str, Any], idempotency_key: str | None) -> Flow[Job]:
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    response = yield from exchange(Request("POST", "/jobs", _body(**body), headers=headers), patience)
    return Job.read(document_of(response))


def get_job(patience: Patience, job: JobOrId) -> Flow[Job]:
    response = yield from exchange(Request("GET", _job_path(job)), patience)
    return Job.read(document_of(response))


def list_jobs(
    patience: Patience, status: str | None, kind: str | None, after: str | None, limit: int
) -> Flow[tuple[list[Job], str | None]]:
    """A page, and `after` of the next one."""
    params = _body(status=status, kind=kind, after=after, limit=limit)
    document = document_of((yield from exchange(Request("GET", "/jobs", params=params), patience)))
    return [Job.read(row) for row in document["jobs"]], document["next"]


def wait(patience: Patience, job: JobOrId, timeout_s: float | None, progress: JobProgress | None) -> Flow[Job]:
    """The job once it is over. Raises TooLate."""
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    etag, seen = "", None
    while True:
        left_s = WAIT_S if give_up is None else max(0.0, give_up - time.monotonic())
        asked = time.monotonic()
        # With a condition the answer comes as soon as something changed, not only at the end.
        headers = {"If-None-Match": etag} if etag and progress is not None else {}
        request = Request("GET", _job_path(job), params={"wait": f"{min(left_s, WAIT_S):.3f}"}, headers=headers)
        response = yield from exchange(request, patience)
        if response.status_code != 304:
            seen = Job.read(document_of(response))
            etag = response.headers.get("etag", "")
            if progress is not None:
                progress(seen)
            if seen.is_over:
                return seen
        if give_up is not None and time.monotonic() >= give_up:
            raise TooLate(_id(job), timeout_s or 0.0)
        if time.monotonic() - asked < LOOK_S:
            yield Pause(LOOK_S)


def result(patience: Patience, job: JobOrId, timeout_s: float | None, progress: JobProgress | None) -> Flow[Any]:
    """What the call would have returned: a Prediction, Similarity or Scores; bytes of a file; else JSON's values."""
    done = yield from wait(patience, job, timeout_s, progress)
    _check(done)
    response = yield from exchange(Request("GET", _job_path(done) + "/result"), patience)
    if done.kind == "file":
        return response.content
    document = document_of(response)
    if done.kind == "sim":
        return read_similarity(document, response.headers, done)
    if done.kind == "score":
        return read_scores(document, response.headers, done)
    if isinstance(document, dict) and {"predictions", "task", "usage"} <= document.keys():
        return read_prediction(document, response.headers, done)
    return document


def download(patience: Patience, job: JobOrId, sink: BinaryIO) -> Flow[None]:
    """The result's bytes of a job that is over, whatever their number."""
    yield from exchange(Request("GET", _job_path(job) + "/result", sink=sink), patience)


def cancel(patience: Patience, job: JobOrId) -> Flow[Job]:
    request = Request("DELETE", _job_path(job), is_repeatable=False)
    return Job.read(document_of((yield from exchange(request, patience))))


def retry(patience: Patience, job: JobOrId) -> Flow[Job]:
    request = Request("POST", _job_path(job) + "/retry", is_repeatable=False)
    return Job.read(document_of((yield from exchange(request, patience))))


def send_file(
    patience: Patience,
    path: Path,
    content_type: str | None,
    job: Mapping[str, Any] | None,
    progress: Progress | None,
) -> Flow[Upload]:
    """Send a file, and start `job` on it. Raises ValueError where its type can't be told by its name."""
    media_type = content_type or _TYPES.get(path.suffix.lower())
    if media_type is None:
        raise ValueError(f"{path.name}: say its content_type; {', '.join(_TYPES)} need none")
    size = path.stat().st_size
    body = _body(content_type=media_type, size=size, job=job)
    asked, _ = yield from _ask(patience, "/uploads", body)
    stream = FileStream(path, size, progress)
    headers = {**asked["headers"], "Content-Length": str(size)}
    request = Request(asked["method"], asked["url"], stream=stream, headers=headers, is_repeatable=False)
    response = yield from exchange(request, patience)
    told: dict[str, Any] = {}
    with suppress(ValueError):
        told = response.json() if response.content[:1] == b"{" else {}
    if "job_error" in told:
        error = told["job_error"]
        raise problem_of(int(error.get("status", 500)), error, response.headers)
    job_id = told.get("job")
    if job is not None and job_id is None:
        # Sent into a bucket, the server hears of it later; then the job is asked for by itself.
        job_id = (yield from submit(patience, {**job, "upload": asked["id"]}, None)).id
    return Upload(asked["id"], size, job_id)


def file_job(model: str, column: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"kind": "file", "model": model, "parameters": {**(parameters or {}), "column": column}}


def submit_file(
    patience: Patience,
    path: Path,
    model: str,
    column: str,
    parameters: Mapping[str, Any] | None,
    progress: Progress | None,
) -> Flow[Job]:
    sent = yield from send_file(patience, path, None, file_job(model, column, parameters), progress)
    assert sent.job_id is not None
    return (yield from get_job(patience, sent.job_id))


def _check(job: Job) -> None:
    """Raise for a job that gave nothing."""
    if job.status == "succeeded":
        return
    cause = job.error or {}
    detail = str(cause.get("detail") or f"the job has {job.status}")
    if job.status == "failed":
        status = int(cause.get("status", 500))
        raise JobFailed(
            422 if status < 500 else 500, {"type": "/problems/job-failed", "detail": detail, "error": cause}
        )
    raise _JOB_ERRORS[job.status](410, {"type": f"/problems/job-{job.status}", "detail": f"the job was {job.status}"})


def _id(job: JobOrId) -> str:
    return job.id if isinstance(job, Job) else job


def _job_path(job: JobOrId) -> str:
    return "/jobs/" + _segment(_id(job))


def _segment(text: str) -> str:
    """As one part of a path, whatever it holds. Raises ValueError for what can't be one."""
    if text in ("", ".", ".."):
        raise ValueError(f"a name or an id is wanted, not {text!r}")
    return quote(text, safe="@")


def _texts(texts: Iterable[str] | Sequence[str]) -> list[str]:
    """A text alone is a mistake that would otherwise be sent letter by letter."""
    if isinstance(texts, (str, bytes)):
        raise TypeError("a list of texts is wanted, not one text")
    return list(texts)
