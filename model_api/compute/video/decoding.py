"""Decode a video's frames with PyAV, from an open file, bounded. Runs in the sandboxed child, and where a model is
trained on files of its own making: the same code prepares both's frames.

Nothing here opens anything: the container's format is told by its first bytes and given to FFmpeg, which probes no
other; no format in the list follows references, and the codecs are those that such files are made of.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from model_api.compute.video.clips import FRAME_HEIGHT, FRAME_WIDTH, centre_crop

Frame = npt.NDArray[np.uint8]  # [112, 112, 3]

MAX_SIDE = 4096
MAX_PIXELS = 4096 * 2304
"""Of one frame as it is stored: 4K in either of its widths."""
PROBED_BYTES = 2**20
"""What FFmpeg may read ahead to learn what a stream is."""
# What phones, cameras and editors write into mp4, mov and avi.
CODECS = (
    "h264", "hevc", "mpeg4", "mjpeg", "msmpeg4v2", "msmpeg4v3", "h263", "vp9", "av1", "libdav1d", "prores", "dvvideo",
    "rawvideo", "mpeg1video", "mpeg2video", "png",
)  # fmt: skip


class NotAVideo(ValueError):
    """No frames can be had of this file; says why, in words for its sender."""


def warm_up() -> None:
    """Decode a picture made here and a file that is none, so that all is loaded: in the sandbox nothing can be opened
    any more. Raises ImportError."""
    import av

    av.logging.set_level(None)
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.codec_context.thread_count = 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    for _ in read_frames(file):
        pass
    with contextlib.suppress(NotAVideo):
        next(read_frames(io.BytesIO(b"\0\0\0\x08ftyp\0\0\0\x08")))


def container_format(beginning: bytes) -> str:
    """FFmpeg's name for what the first 12 bytes say. Raises NotAVideo."""
    if beginning[:4] == b"RIFF" and beginning[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if beginning[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    raise NotAVideo("not a video: its first bytes are those of no mp4, mov or avi")


def read_frames(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Each frame of the first video stream, in the order shown, resized to 171 x 128 and cropped to its middle. Raises
    NotAVideo, as soon as it shows. Decodes on this thread alone, frame by frame, as they are asked for."""
    import av

    name = container_format(file.read(12))
    file.seek(0)
    options = {
        "protocol_whitelist": "",
        "format_whitelist": name,
        "codec_whitelist": ",".join(CODECS),
        "probesize": str(PROBED_BYTES),
        "analyzeduration": "0",
        "enable_drefs": "0",
    }
    options = {key: value for key, value in options.items() if name == "mov" or key != "enable_drefs"}
    try:
        with av.open(file, format=name, container_options=options) as container:
            if not container.streams.video:
                raise NotAVideo("not a video: it holds no stream of pictures")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise NotAVideo("not a video: its pictures are of a kind that isn't read here")
            _judge_size(stream.codec_context.width, stream.codec_context.height, max_pixels)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
            yield from _frames_of(container, stream, max_pixels)
    except av.FFmpegError as error:
        raise NotAVideo(f"not a video: it can't be decoded ({error.strerror})") from None


def _judge_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise NotAVideo("not a video: its frames have no size")
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise NotAVideo(
            f"too large: its frames are {width} x {height}; at most {MAX_SIDE} a side and {max_pixels} pixels are read"
        )


def _frames_of(container: Any, stream: Any, max_pixels: int) -> Iterator[Frame]:
    import av

    broken = ""
    n = 0
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                _judge_size(frame.width, frame.height, max_pixels)
                yield prepare(frame)
                n += 1
        except av.InvalidDataError as error:  # one damaged packet: players go on too
            broken = error.strerror
    if n == 0:
        raise NotAVideo(f"not a video: none of its frames can be decoded ({broken or 'it has none'})")


def prepare(frame: Any) -> Frame:
    """Of one av.VideoFrame: [112, 112, 3], RGB, levels of 0 to 255."""
    small = frame.reformat(width=FRAME_WIDTH, height=FRAME_HEIGHT, format="rgb24", interpolation="AREA", threads=1)
    return np.ascontiguousarray(centre_crop(small.to_ndarray()))
