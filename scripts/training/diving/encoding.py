"""Drawn frames become video files, and those the frames that a network is trained on: by the code that serves."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from model_api.compute.video.clips import Frames
from model_api.compute.video.decoding import read_frames


def encode(frames: npt.NDArray[np.uint8], container: str = "mp4", codec: str = "libx264", rate: int = 25,
           **options: str) -> bytes:  # fmt: skip
    """A file of those frames; their sides must be even. Needs PyAV."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options, stream.codec_context.thread_count = "yuv420p", options, 1
        for picture in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def as_served(frames: npt.NDArray[np.uint8], random: np.random.Generator) -> Frames:
    """[n, h, w, 3] -> [n, 112, 112, 3]: through a file of some quality, and the decoder."""
    quality = str(int(random.integers(18, 33)))
    return np.stack(list(read_frames(io.BytesIO(encode(frames, crf=quality, preset="ultrafast")))))
