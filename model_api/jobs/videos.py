"""A video as a job: decoded in a sandboxed process, its clips through the model as they come, one score at the end.

Decoding and the network run at the same time: while the child decodes on, clips that are whole wait for the model.
"""

import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from model_api.compute.video.clips import CLIP_FRAMES, Frames, clip_starts, spread_clip
from model_api.errors import DeadlineExceeded, InvalidInput, VersionNotLoaded
from model_api.jobs.asking import ask_patiently
from model_api.jobs.objects import ObjectGone, Objects
from model_api.jobs.runner import Outcome, Run
from model_api.processes.video_frames import frames_of
from model_api.repository.known_tasks import TASKS
from model_api.serving.calls import Answer, CallContext, ModelService
from model_api.serving.documents import dump
from model_api.tasks.contract import Array
from model_api.tasks.video.regression import CLIP, FEATURES, GLANCE, PART

MAX_SWAPS = 5
CLIPS_ASKED_AT_ONCE = 4  # as many as a forward takes; the rest waits here rather than in the queue
POINTER = "/upload"


def takes_uploads(kind: str) -> bool:
    """Whether a job of that kind is a task that works on uploads."""
    return kind in TASKS and bool(TASKS[kind].takes)


def check_video(kind: str, content_type: str) -> None:
    """Raises InvalidInput for an upload of another type; what its bytes are, decoding will show."""
    if content_type not in TASKS[kind].takes:
        raise InvalidInput(f"must be {' or '.join(TASKS[kind].takes)}, not {content_type}", POINTER)


class VideoWork:
    """Does jobs on videos, on the runner's threads."""

    def __init__(self, service: ModelService, objects: Objects, scratch: Path, call_timeout_s: float) -> None:
        self._service = service
        self._objects = objects
        self._scratch = scratch
        self._call_timeout_s = call_timeout_s

    def __call__(self, run: Run, work: Mapping[str, Any]) -> Outcome:
        """Raises InvalidInput for what is no video, too long or shows something else, what the model's calls raise,
        and CallerLeft."""
        folder = self._scratch / run.job.id
        try:
            return self._judged(run, work, self._source(work["key"], folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _judged(self, run: Run, work: Mapping[str, Any], source: Path) -> Outcome:
        version = run.job.version
        for _ in range(MAX_SWAPS):
            try:
                found, counts = _Judging(self._ask(run), run, f"{work['model']}@{version}", work["parameters"])(source)
            except VersionNotLoaded:
                if run.job.pinned:
                    raise
                # Clips of two versions are never mixed: the successor sees the whole video.
                version = self._ask(run)(lambda c: self._service.predict_weights(work["model"], [], {}, c)).version
                continue
            document = {"model": found.model, "version": found.version, "digest": found.digest, "task": found.task,
                        "predictions": found.predictions, "usage": counts}  # fmt: skip
            weights = {"model": found.model, "version": found.version, "digest": found.digest}
            return Outcome(dump(document), weights)
        raise DeadlineExceeded(f"{work['model']} was swapped {MAX_SWAPS} times while the job ran")

    def _ask(self, run: Run) -> "_Ask":
        return _Ask(self._service, run, self._call_timeout_s)

    def _source(self, key: str, folder: Path) -> Path:
        with contextlib.suppress(ObjectGone):
            file = self._objects.as_file(key, folder)
            if file.exists():
                return file
        raise InvalidInput("the upload is kept no longer", POINTER)


class _Ask:
    """Asks the model for parts of a video, for as long as somebody wants it."""

    def __init__(self, service: ModelService, run: Run, call_timeout_s: float) -> None:
        self._service, self._run, self._timeout_s = service, run, call_timeout_s

    def __call__(self, call: Callable[[CallContext], Any]) -> Any:
        return ask_patiently(self._run, call, call_s=self._timeout_s, all_s=self._timeout_s)

    def part(self, address: str, part: str, array: Array, parameters: Mapping[str, Any]) -> Answer:
        asked = {**parameters, PART: part}
        found: Answer = self(lambda context: self._service.predict(address, [array], asked, context))
        return found


class _Judging:
    """One pass over one video by one version."""

    def __init__(self, ask: _Ask, run: Run, address: str, parameters: Mapping[str, Any]) -> None:
        self._ask, self._run, self._address, self._parameters = ask, run, address, parameters
        self._frames: list[Frames] = []
        self._rows: list[Future[Array]] = []
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, source: Path) -> tuple[Answer, dict[str, int]]:
        with ThreadPoolExecutor(CLIPS_ASKED_AT_ONCE, "clips") as threads:
            try:
                self._decode(source, threads)
                self._check_content()
                rows = [future.result() for future in self._rows]
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        features = np.stack(rows).mean(axis=0, dtype=np.float64, keepdims=True)[0].astype(np.float32)
        found = self._ask.part(self._address, FEATURES, features, self._parameters)
        return found, {"frames": len(self._frames), "clips": len(rows)}

    def _decode(self, source: Path, threads: ThreadPoolExecutor) -> None:
        """All frames, and each clip handed over as soon as it is whole. Raises InvalidInput."""
        with source.open("rb") as video, contextlib.closing(frames_of(video, has_left=self._run.has_left)) as decoded:
            for frame in decoded:
                self._frames.append(frame)
                if len(self._frames) % CLIP_FRAMES == 0:
                    self._hand_over(threads, len(self._frames) - CLIP_FRAMES)
        n = len(self._frames)
        if n < CLIP_FRAMES:
            raise InvalidInput(f"too short: it has {n} frames, a clip has {CLIP_FRAMES}", POINTER)
        for start in clip_starts(n)[len(self._rows) :]:
            self._hand_over(threads, start)

    def _hand_over(self, threads: ThreadPoolExecutor, start: int) -> None:
        clip = np.stack(self._frames[start : start + CLIP_FRAMES])
        self._rows.append(threads.submit(self._row, clip))
        self._advance(0)

    def _row(self, clip: Frames) -> Array:
        row: Array = self._ask.part(self._address, CLIP, clip, self._parameters).predictions[0]
        self._advance(1)
        return row

    def _advance(self, more: int) -> None:
        with self._lock:
            self._done += more
            self._run.advance(self._done, len(self._rows), "clips")

    def _check_content(self) -> None:
        """Raises InvalidInput where the video shows something else than the model is for."""
        glance = spread_clip(np.stack(self._frames))
        seen = self._ask.part(self._address, GLANCE, glance, self._parameters).predictions[0]
        if seen["shown"] is not None and seen["shown"] < seen["minimum"]:
            raise InvalidInput(f"shows something else ({seen['shown']:.2f})", POINTER)
