"""Videos decoded in their sandbox: what is read, what is refused with which words, and when the child ends."""

import contextlib
import io
import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_api.compute.video.clips import CROP, FRAME_HEIGHT, FRAME_WIDTH
from model_api.errors import CallerLeft, InvalidInput, VideoUnavailable
from model_api.processes import video_frames
from model_api.processes.video_frames import frames_of
from tests.needs import needs_package
from tests.rigs.polling import wait_until
from tests.rigs.videos import as_file, moving_square


@pytest.fixture(autouse=True)
def _with_pyav() -> None:
    needs_package("av")


def encoded(*arguments: Any, **options: Any) -> bytes:
    from scripts.training.diving.encoding import encode

    try:
        return encode(*arguments, **options)
    finally:
        # SVT-AV1 makes root's thread a real-time one, before which nothing else runs; what it starts would be so too.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def refusal(content: bytes, **limits: Any) -> str:
    with pytest.raises(InvalidInput) as caught, as_file(content) as file:
        list(frames_of(file, **limits))
    assert caught.value.pointer == "/upload"
    return str(caught.value)


def frames_or_reason(content: bytes) -> list[Any] | str:
    with as_file(content) as file:
        try:
            return list(frames_of(file))
        except InvalidInput as error:
            return str(error)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("mp4", "libx265"),
        ("mp4", "libvpx-vp9"),
        ("mp4", "libsvtav1"),
        ("mov", "mpeg4"),
        ("avi", "mpeg4"),
        ("avi", "libx264"),
    ],
)
def test_each_frame_comes_once_in_order_resized_and_cropped(container: str, codec: str) -> None:
    pictures = moving_square(20)
    with as_file(encoded(pictures, container, codec)) as file:
        frames = list(frames_of(file))
    assert len(frames) == 20
    assert {(frame.shape, frame.dtype) for frame in frames} == {((CROP, CROP, 3), np.dtype(np.uint8))}
    # The nearest pixels of the original, cropped likewise: close to it, whoever encoded and scaled.
    rows = (np.arange(CROP) + (FRAME_HEIGHT - CROP) // 2 + 0.5) * 96 / FRAME_HEIGHT
    columns = (np.arange(CROP) + (FRAME_WIDTH - CROP) // 2 + 0.5) * 128 / FRAME_WIDTH
    for frame, picture in zip(frames, pictures, strict=True):
        wanted = picture[rows.astype(int)][:, columns.astype(int)].astype(float)
        assert np.abs(frame - wanted).mean() < 22


def test_training_sees_what_serving_sees() -> None:
    from model_api.compute.video.decoding import read_frames

    content = encoded(moving_square(18))
    with as_file(content) as file:
        served = np.stack(list(frames_of(file)))
    assert np.array_equal(served, np.stack(list(read_frames(io.BytesIO(content)))))


def test_it_stops_at_the_limit() -> None:
    content = encoded(moving_square(30, 64, 64))
    assert refusal(content, max_frames=29) == "too long: it has more than 29 frames"
    with as_file(content) as file:
        assert len(list(frames_of(file, max_frames=30))) == 30


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")
TRICKS = {
    "text": b"This is no video, whatever its name says.\n",
    "empty": b"",
    "short": b"\0\0",
    "nothing but a head": FTYP,
    "playlist": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/secret.ts\n",
    "playlist behind a head": FTYP + b"\n#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "web page": b"<!DOCTYPE html><html></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
    "matroska": b"\x1aE\xdf\xa3" + bytes(100),
    "ogg": b"OggS" + bytes(100),
    "wave": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    "avi of nothing": b"RIFF\x10\0\0\0AVI LIST" + bytes(8),
    "boxes in boxes": FTYP + b"".join(struct.pack(">I", 2**31 - 1) + b"moov" for _ in range(200)),
    "endless box": FTYP + struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 2**63 - 1),
    "reference movie": FTYP
    + box(b"moov", box(b"rmra", box(b"rmda", box(b"rdrf", b"\0\0\0\0url " + struct.pack(">I", 24) + b"http://127.0.0.1/a.mov\0\0")))),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_no_video_is_refused_with_a_reason(trick: str) -> None:
    assert refusal(TRICKS[trick]).startswith("not a video: ")


def test_sound_alone_is_no_video() -> None:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        for start in range(0, 16000, 1024):
            sound: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, start
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert refusal(file.getvalue()) == "not a video: it holds no stream of pictures"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """8000 x 8000 pixels in some kilobytes, of which a second's frames would take 5 GB."""
    content = encoded(np.zeros((2, 8000, 8000, 3), np.uint8), "mp4", "mpeg4")
    assert len(content) < 2**21
    began = time.monotonic()
    assert refusal(content).startswith("too large: its frames are 8000 x 8000; at most 4096 a side")
    assert time.monotonic() - began < 60


def test_a_video_that_grows_on_the_way_is_held_to_the_limit() -> None:
    """The container says 64 x 64; the stream itself goes on to say otherwise."""
    small, large = encoded(moving_square(4, 64, 64)), encoded(moving_square(4, 4800, 4800))
    parameters = large.index(b"avcC")
    here = small.index(b"avcC")
    n = struct.unpack(">I", large[parameters - 4 : parameters])[0]
    m = struct.unpack(">I", small[here - 4 : here])[0]
    if n != m:
        content = (
            small[: here + 4] + large[parameters + 4 : parameters + 4 + min(n, m) - 8] + small[here + min(n, m) - 4 :]
        )
    else:
        content = small[: here - 4] + large[parameters - 4 : parameters - 4 + n] + small[here - 4 + n :]
    assert refusal(content).split(":")[0] in ("not a video", "too large")


@pytest.mark.parametrize("scale", [0, 1, 2**31 - 1])
def test_a_rate_of_nothing_harms_nobody(scale: int) -> None:
    """Frames a second are nobody's business here: 0 of them, or two thousand million."""
    content = bytearray(encoded(moving_square(17, 64, 64)))
    at = content.index(b"mdhd") + 16
    content[at : at + 4] = struct.pack(">I", scale)
    found = frames_or_reason(bytes(content))  # it may say that most of them are not to be shown
    assert found.startswith("not a video") if isinstance(found, str) else 1 <= len(found) <= 17


def test_an_external_reference_is_not_followed(tmp_path: Path) -> None:
    """A mov whose samples are said to lie in another file: it isn't opened, though it is there."""
    content = encoded(moving_square(17, 64, 64), "mov")
    other = tmp_path / "other.mov"
    other.write_bytes(content)
    at = content.index(b"dref")
    entry = struct.unpack(">I", content[at + 12 : at + 16])[0]
    name = f"file://{other}".encode() + b"\0"
    changed = bytearray(content)
    changed[at + 16 : at + 20] = b"url "
    changed[at + 23] = 0  # not in this file
    assert entry >= 12
    # Without room for a name the reference stays empty; with one, the boxes around grow, which a hostile file does too.
    grown = bytes(changed[: at + 24]) + name + bytes(changed[at + 24 :])
    opened_before = other.stat().st_atime_ns
    for hostile in (bytes(changed), grown):
        found = frames_or_reason(hostile)
        assert found.startswith("not a video") if isinstance(found, str) else len(found) <= 17
    assert other.stat().st_atime_ns == opened_before


def test_whoever_leaves_ends_the_child() -> None:
    with as_file(encoded(moving_square(40))) as file:
        frames = frames_of(file)
        next(frames)
        before = children()
        assert before
        frames.close()
        assert not children() & before


def test_nobody_waits_for_a_video_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_frames, "LOOK_EVERY_S", 0.01)
    reading, writing = os.pipe()
    left = threading.Event()
    threading.Timer(0.3, left.set).start()
    with os.fdopen(reading, "rb") as never_comes, pytest.raises(CallerLeft):
        list(frames_of(never_comes, has_left=left.is_set))
    os.close(writing)


def test_time_is_measured_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_frames, "LOOK_EVERY_S", 0.01)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as never_comes, pytest.raises(InvalidInput, match=r"took longer than 0\.2 s"):
        list(frames_of(never_comes, max_wall_s=0.2))
    os.close(writing)


@pytest.mark.parametrize(
    ("says", "error", "words"),
    [
        ("os.write(1, b'F' + (37632).to_bytes(4, 'big') + bytes(37632)); os._exit(0)", VideoUnavailable, "status 0"),
        ("os.write(1, b'F\\xff\\xff\\xff\\xff')", InvalidInput, "decoding it went wrong"),
        ("os.write(1, b'F\\0\\0\\0\\4abcd')", InvalidInput, "decoding it went wrong"),
        ("os.write(1, b'X\\0\\0\\0\\0')", InvalidInput, "decoding it went wrong"),
        ("os.write(1, b'N\\0\\0\\0\\5a\\nb\\x1bc')", InvalidInput, "a?b?c"),
        ("os.write(1, b'U\\0\\0\\0\\2no')", VideoUnavailable, "can't be decoded here: no"),
        ("[os.write(1, b'F' + (37632).to_bytes(4, 'big') + bytes(37632)) for _ in range(9)]", InvalidInput, "wrong"),
        ("os.kill(os.getpid(), 11)", InvalidInput, "ended with SIGSEGV"),
        ("os.kill(os.getpid(), 24)", InvalidInput, "takes too much time or memory"),
        ("sys.exit(3)", VideoUnavailable, "status 3"),
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, says: str, error: type[Exception], words: str
) -> None:
    """In its place runs what a video could at worst make of it."""
    monkeypatch.setattr(video_frames, "_COMMAND", [sys.executable, "-c", f"import os, sys\n{says}"])
    with as_file(b"") as file, pytest.raises(error, match=words.replace("?", r"\?")):
        list(frames_of(file, max_frames=3))


def test_without_pyav_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_frames, "lacking", lambda: "PyAV isn't installed: pip install -r requirements-video.txt")
    with as_file(b"") as file, pytest.raises(VideoUnavailable, match=r"requirements-video\.txt"):
        list(frames_of(file))


def test_the_child_knows_nothing_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    says = "os.write(1, b'N\\0\\0\\0\\2' + (b'no' if 'AWS_SECRET_ACCESS_KEY' in os.environ else b'ok'))"
    monkeypatch.setattr(video_frames, "_COMMAND", [sys.executable, "-c", f"import os\n{says}"])
    with as_file(b"") as file, pytest.raises(InvalidInput, match="ok"):
        list(frames_of(file))


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_no_child_is_left_behind() -> None:
    before = children()
    for content in (b"no video", encoded(moving_square(17, 64, 64))):
        with as_file(content) as file, contextlib.suppress(InvalidInput):
            list(frames_of(file))
    wait_until(lambda: not children() - before)
