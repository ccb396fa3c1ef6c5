"""A video's frames, decoded in a sandboxed process of its own, as they come. The other end is video_child.

Whoever holds the video may have made it to do harm, so nothing that the child says is believed beyond its form: frames
have one size, there are at most so many, words are cut and cleaned, and time is measured here.
"""

import importlib.util
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from model_api.compute.video.clips import CROP, MAX_FRAMES, Frames
from model_api.errors import CallerLeft, InvalidInput, VideoUnavailable
from model_api.processes.video_child import DONE, FRAME, HEAD, MAX_WORDS_BYTES, NOT_A_VIDEO, UNABLE

MAX_WALL_S = 120.0
LOOK_EVERY_S = 0.5
POINTER = "/upload"
_COMMAND = [sys.executable, "-m", "model_api.processes.video_child"]
_FRAME_BYTES = CROP * CROP * 3
_ROOT = Path(__file__).parents[2]
# Neither what the service may do nor what it knows: no key, no path, no proxy.
_ENVIRONMENT = {"PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def lacking() -> str:
    """Why no video can be decoded on this machine; "" if nothing is known to be missing."""
    if importlib.util.find_spec("av") is None:
        return "PyAV isn't installed: pip install -r requirements-video.txt"
    return ""


def frames_of(
    video: BinaryIO,
    *,
    max_frames: int = MAX_FRAMES,
    max_wall_s: float = MAX_WALL_S,
    has_left: Callable[[], bool] = lambda: False,
) -> Generator[Frames, None, None]:
    """Each frame as [112, 112, 3], RGB, 0 to 255. `video` is a file of this system, open for reading at its beginning.

    Raises InvalidInput where it isn't a video or too long, VideoUnavailable, CallerLeft. Closing the iterator ends the
    child.
    """
    if why := lacking():
        raise VideoUnavailable(f"videos can't be decoded here: {why}")
    with subprocess.Popen(
        [*_COMMAND, str(max_frames)],
        stdin=video,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
    ) as child:
        try:
            assert child.stdout is not None
            yield from _frames(_Answers(child, child.stdout.fileno(), max_wall_s, has_left), max_frames)
        finally:
            child.kill()


def _frames(answers: "_Answers", max_frames: int) -> Iterator[Frames]:
    for n in range(max_frames + 2):
        kind, content = answers.next()
        if kind == FRAME and len(content) == _FRAME_BYTES and n < max_frames:
            yield np.frombuffer(content, np.uint8).reshape(CROP, CROP, 3)
        elif kind == DONE:
            return
        elif kind == UNABLE:
            raise VideoUnavailable(f"videos can't be decoded here: {_words(content)}")
        elif kind == NOT_A_VIDEO:
            raise InvalidInput(_words(content), POINTER)
        else:
            break
    raise InvalidInput("not a video: decoding it went wrong", POINTER)


class _Answers:
    """What the child says, as it comes."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", descriptor: int, max_wall_s: float, has_left: Callable[[], bool]
    ) -> None:
        self._child = child
        self._descriptor = descriptor
        self._max_wall_s = max_wall_s
        self._waited_s = 0.0  # for the child; what the caller does with a frame doesn't count
        self._has_left = has_left
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLIN)

    def next(self) -> tuple[bytes, bytes]:
        """Raises InvalidInput where it ended or takes too long, CallerLeft."""
        kind, n_bytes = HEAD.unpack(self._exactly(HEAD.size))
        if n_bytes > max(_FRAME_BYTES, MAX_WORDS_BYTES):
            raise InvalidInput("not a video: decoding it went wrong", POINTER)
        return kind, self._exactly(n_bytes)

    def _exactly(self, n_bytes: int) -> bytes:
        got = bytearray()
        while len(got) < n_bytes:
            self._wait()
            part = os.read(self._descriptor, n_bytes - len(got))
            if not part:
                raise self._how_it_ended()
            got += part
        return bytes(got)

    def _wait(self) -> None:
        while True:
            began = time.monotonic()
            ready = self._ready.poll(LOOK_EVERY_S * 1e3)
            self._waited_s += time.monotonic() - began
            if ready:
                return
            if self._has_left():
                raise CallerLeft("nobody waits for this video")
            if self._waited_s > self._max_wall_s:
                raise InvalidInput(f"not a video: decoding it took longer than {self._max_wall_s:g} s", POINTER)

    def _how_it_ended(self) -> InvalidInput | VideoUnavailable:
        status = self._child.wait()
        if status in (-signal.SIGXCPU, -signal.SIGKILL):  # its own limit of processor time, or out of memory
            return InvalidInput("not a video: it takes too much time or memory to decode", POINTER)
        if status < 0:
            return InvalidInput(f"not a video: decoding it ended with {signal.Signals(-status).name}", POINTER)
        return VideoUnavailable(f"videos can't be decoded here: the decoder ended with status {status}")


def _words(content: bytes) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in content.decode("utf-8", "replace"))
