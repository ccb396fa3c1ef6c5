"""The process that decodes one video: `python -m model_api.processes.video_child`, started by video_frames.

Standard input is the video's file, open for reading; standard output carries messages: a letter, the length of what
follows (4 bytes, network order), and that. F a frame, D (how many) at the end, N why there are no frames, U why this
machine can't decode. Between its imports and the first byte of the video it gives up all but arithmetic.
"""

import contextlib
import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from model_api.processes import sandbox

FRAME, DONE, NOT_A_VIDEO, UNABLE = b"F", b"D", b"N", b"U"
HEAD = struct.Struct("!cI")
MAX_MEMORY_BYTES = 2**30  # of address space: libraries 0.25 GB, and a 4K stream's reference pictures
MAX_CPU_S = 60
MAX_WORDS_BYTES = 500


def main() -> int:
    max_frames = int(sys.argv[1])
    os.nice(10)  # a request that takes milliseconds doesn't wait behind a video
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900")  # and where memory is short, a video goes first
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        from model_api.compute.video.decoding import warm_up

        warm_up()
        video = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=2**16)
        sandbox.close_to_computing(MAX_MEMORY_BYTES, MAX_CPU_S)
    except (ImportError, OSError) as error:
        _say(answers, UNABLE, str(error))
        return 0
    _decode(video, answers, max_frames)
    os._exit(0)  # what the interpreter does at its end may need a call that was given up


def _decode(video: BinaryIO, answers: BinaryIO, max_frames: int) -> None:
    from model_api.compute.video.decoding import NotAVideo, read_frames

    n = 0
    try:
        for n, frame in enumerate(read_frames(video), 1):
            if n > max_frames:
                raise NotAVideo(f"too long: it has more than {max_frames} frames")
            _send(answers, FRAME, frame.tobytes())
        _say(answers, DONE, str(n))
    except NotAVideo as error:
        _say(answers, NOT_A_VIDEO, str(error))
    except MemoryError:
        _say(answers, NOT_A_VIDEO, "not a video: it takes too much memory to decode")
    except Exception as error:  # whatever a library makes of a file that was made to confuse it
        _say(answers, NOT_A_VIDEO, f"not a video: it can't be decoded ({type(error).__name__})")


def _say(answers: BinaryIO, kind: bytes, words: str) -> None:
    _send(answers, kind, words.encode("utf-8", "replace")[:MAX_WORDS_BYTES])


def _send(answers: BinaryIO, kind: bytes, content: bytes) -> None:
    rest = memoryview(HEAD.pack(kind, len(content)) + content)
    while rest:
        rest = rest[answers.write(rest) :]


if __name__ == "__main__":
    sys.exit(main())
