"""What a job does: the calls of /predict, /sim and /score, without anybody waiting for them."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson

from model_api.errors import DeadlineExceeded, InvalidInput, VersionNotLoaded
from model_api.jobs.asking import ask_patiently
from model_api.jobs.daily import Daily
from model_api.jobs.files.batches import BATCH
from model_api.jobs.files.parts import PART
from model_api.jobs.files.work import FileWork, batch_model, check_table
from model_api.jobs.objects import Objects
from model_api.jobs.pipelines import DAILY
from model_api.jobs.queue import JobQueue, Request
from model_api.jobs.runner import Outcome, Run
from model_api.jobs.uploads import Upload, upload_key
from model_api.jobs.videos import VideoWork, check_video, takes_uploads
from model_api.repository.known_tasks import TASKS
from model_api.serving.calls import Answer, CallContext, ModelService, Weights
from model_api.serving.documents import (
    dump,
    predict_document,
    predicted_scores_document,
    predicted_texts,
    scores_document,
    similarity_document,
)
from model_api.serving.openai_embeddings import TASK as EMBEDDING
from model_api.tasks import is_long_running

Found = TypeVar("Found")
Scores = list[dict[str, float]]

PART_INPUTS = 16  # of a call: what a cancelled job still computes, and how finely its progress is told
DEFAULT_COLUMN = "text"
MAX_SWAPS = 5  # how often a job begins again because its model was swapped under it
# and BATCH, which only its own protocol asks for
PREDICT, SIM, SCORE, FILE, VIDEO = "predict", "sim", "score", "file", "video"


@dataclass(frozen=True)
class Asked:
    """A job's work, examined: what /predict would have refused, has been refused."""

    kind: str
    work: Mapping[str, Any]
    weights: Weights | None  # None where no model is asked
    pinned: bool  # the caller named the version
    total: int
    unit: str


def is_kind(kind: str) -> bool:
    """Whether a job can be of that kind: a route's, or the task of the model that is asked."""
    return kind in (PREDICT, SIM, SCORE, FILE) or kind in TASKS


def canonical_work(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two bodies the same work. `body` is of the route's shape, and has been checked against that."""
    name = (body.get("model") or "").partition("@")[0]
    parameters = body.get("parameters") or {}
    if kind == SIM:
        return {"call": SIM, "model": name, "target": body["target"], "texts": body["texts"], "parameters": parameters}
    if kind == SCORE and body.get("model") is None:
        return {"call": SCORE, "targets": body["targets"], "predictions": body["predictions"]}
    if kind == SCORE:
        wanted = {"targets": body["targets"], "inputs": body["inputs"]}
        return {"call": SCORE, "model": name, **wanted, "parameters": parameters}
    if kind == FILE:
        # By what is in it: the same file sent twice is the same work.
        upload: Upload = body["file"]
        rest = {name: value for name, value in parameters.items() if name != "column"}
        wanted = {"column": parameters.get("column", DEFAULT_COLUMN), "content_type": upload.content_type}
        return {"call": FILE, "model": name, "sha256": upload.received_sha256, **wanted, "parameters": rest}
    if kind == BATCH:
        upload = body["file"]
        wanted = {"content_type": upload.content_type, "endpoint": body["endpoint"], "metadata": body["metadata"]}
        return {"call": BATCH, "model": "", "sha256": upload.received_sha256, **wanted, "parameters": {}}
    if takes_uploads(kind):
        return {"call": VIDEO, "model": name, "sha256": body["file"].received_sha256, "parameters": parameters}
    inputs = body["inputs"] if isinstance(body["inputs"], list) else [body["inputs"]]
    return {"call": PREDICT, "model": name, "inputs": inputs, "parameters": parameters}


def examine(service: ModelService, objects: Objects, kind: str, body: Mapping[str, Any], context: CallContext) -> Asked:
    """Raises what /predict, /sim or /score would for this body, short of computing it."""
    work = canonical_work(kind, body)
    address, parameters = body.get("model"), body.get("parameters") or {}
    weights = None
    if work["call"] == SIM:
        weights = service.similarity_weights(work["target"], work["texts"], address, parameters, context)
        work["model"] = weights.model
    elif work["call"] == FILE:
        check_table(objects, body["file"].key, work["content_type"], work["column"])
        weights = service.predict_weights(address or "", [], work["parameters"], context)
    elif work["call"] == BATCH:
        address = batch_model(objects, body["file"].key)
        weights = service.predict_weights(address, [], {}, context)
        if weights.task != EMBEDDING:
            raise InvalidInput(f"{weights.model} serves {weights.task}, not {EMBEDDING}", "/input_file_id")
        work["model"] = weights.model
    elif work["call"] == VIDEO:
        check_video(kind, body["file"].content_type)
        weights = _of_task(kind, service.predict_weights(address or "", [], parameters, context))
    elif address is not None:
        weights = _of_task(kind, service.predict_weights(address, work["inputs"], parameters, context))
    items = work.get("texts", work.get("inputs", work.get("targets", [])))
    unit = {SIM: "texts", SCORE: "pairs", FILE: "rows", BATCH: "rows", VIDEO: "clips"}.get(work["call"], "inputs")
    return Asked(kind, work, weights, "@" in (address or ""), len(items), unit)


def request_for(kind: str, asked: Asked, *, upload: str | None, owner: str, ttl_s: float, **more: Any) -> Request:
    """What the queue is asked for that work; `more` are Request's own."""
    weights = asked.weights
    repeatable = weights is None or weights.repeatable
    return Request(
        kind=kind,
        work=asked.work,
        model=weights.model if weights else None,
        version=weights.version if weights else None,
        digest=weights.digest if weights else None,
        pinned=asked.pinned,
        upload=upload,
        owner=owner,
        ttl_s=ttl_s,
        nonce="" if repeatable else secrets.token_hex(16),
        total=asked.total,
        unit=asked.unit,
        **more,
    )


def _of_task(kind: str, weights: Weights) -> Weights:
    """The same. Raises InvalidInput where the job asks for a task that the model doesn't serve."""
    if kind in TASKS and weights.task != kind:
        raise InvalidInput(f"{weights.model} serves {weights.task}, not {kind}", "/model")
    return weights


class Work:
    """Does jobs, on the runner's threads."""

    def __init__(
        self,
        service: ModelService,
        queue: JobQueue,
        file_work: FileWork,
        video_work: VideoWork,
        daily: Daily,
        *,
        call_timeout_s: float,
        job_timeout_s: float,
    ) -> None:
        """`call_timeout_s` bounds a call of a model that answers in milliseconds, which is asked again when the queue
        was too long; `job_timeout_s` bounds a call of one that takes minutes, and every asking again."""
        self._service = service
        self._queue = queue
        self._file_work = file_work
        self._video_work = video_work
        self._daily = daily
        self._call_timeout_s = call_timeout_s
        self._job_timeout_s = job_timeout_s

    def __call__(self, run: Run) -> Outcome:
        """Raises what the calls raise, and CallerLeft."""
        job = run.job
        assert job.work is not None
        work: dict[str, Any] = orjson.loads(self._queue.content(job.work))
        if work["call"] in (FILE, BATCH):
            return self._file_work(run, {**work, "key": upload_key(job.upload or "")})
        if work["call"] == VIDEO:
            return self._video_work(run, {**work, "key": upload_key(job.upload or "")})
        if work["call"] == PART:
            return self._file_work(run, work)
        if work["call"] == DAILY:
            return self._daily(run, work)
        if work["call"] == SCORE and "model" not in work:
            return Outcome(dump(scores_document(self._scores(run, work, work["predictions"], "/predictions"))))
        document, found = self._answered(run, work)
        return Outcome(dump(document), {"model": found.model, "version": found.version, "digest": found.digest})

    def _answered(self, run: Run, work: Mapping[str, Any]) -> tuple[dict[str, Any], Answer]:
        """By the version that the job was asked of; by the one that serves now, where that is gone."""
        job = run.job
        address = f"{work['model']}@{job.version}"
        for _ in range(MAX_SWAPS):
            try:
                return self._call(run, work, address)
            except VersionNotLoaded:
                if job.pinned:
                    raise
                address = work["model"]
            except _Swapped:
                continue
        raise DeadlineExceeded(f"{work['model']} was swapped {MAX_SWAPS} times while the job ran")

    def _call(self, run: Run, work: Mapping[str, Any], address: str) -> tuple[dict[str, Any], Answer]:
        parameters = work["parameters"]
        if work["call"] == SIM:
            target, texts = work["target"], work["texts"]
            found = self._ask(
                run, lambda c: self._service.similarity(target, texts, address, parameters, c), takes_long=False
            )
            return similarity_document(target, texts, found), found
        found = self._predict(run, address, work["inputs"], parameters)
        if work["call"] == SCORE:
            items = self._scores(run, work, predicted_texts(found), "/targets")
            return predicted_scores_document(items, found), found
        return predict_document(found), found

    def _predict(self, run: Run, address: str, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Answer:
        """One answer from the answers to parts of the inputs, all by the same weights. Raises _Swapped."""
        whole: Answer | None = None
        takes_long = self._takes_long(address)
        for begin in range(0, max(1, len(inputs)), PART_INPUTS):
            part = inputs[begin : begin + PART_INPUTS]
            try:
                found = self._ask(
                    run,
                    lambda c, p=part: self._service.predict(address, p, parameters, c),  # type: ignore[misc]
                    takes_long=takes_long,
                )
            except InvalidInput as error:
                raise InvalidInput(str(error), shifted(error.pointer, begin)) from error
            if whole is not None and found.digest != whole.digest:
                raise _Swapped
            whole = _joined(whole, found, begin)
            run.advance(begin + len(part))
        assert whole is not None
        return whole

    def _scores(self, run: Run, work: Mapping[str, Any], predictions: Sequence[str], place: str) -> Scores:
        return self._ask(run, lambda c: self._service.scores(work["targets"], predictions, place, c), takes_long=True)

    def _ask(self, run: Run, call: Callable[[CallContext], Found], *, takes_long: bool) -> Found:
        call_s = self._job_timeout_s if takes_long else self._call_timeout_s
        return ask_patiently(run, call, call_s=call_s, all_s=self._job_timeout_s)

    def _takes_long(self, address: str) -> bool:
        return is_long_running(str(self._service.model(address.partition("@")[0]).get("task")))


class _Swapped(Exception):
    """Parts of one job were answered by different weights."""


def _joined(whole: Answer | None, part: Answer, offset: int) -> Answer:
    if whole is None:
        return part
    return replace(
        whole,
        predictions=[*whole.predictions, *part.predictions],
        n_tokens=whole.n_tokens + part.n_tokens,
        truncated=[*whole.truncated, *(index + offset for index in part.truncated)],
    )


def shifted(pointer: str, offset: int) -> str:
    """/inputs/n of a part as /inputs/n of the whole."""
    parts = pointer.split("/")
    if len(parts) > 2 and parts[1] == "inputs" and parts[2].isdigit():
        parts[2] = str(int(parts[2]) + offset)
    return "/".join(parts)
