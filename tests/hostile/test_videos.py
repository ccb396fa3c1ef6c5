"""Hundreds of damaged and made-up videos: each gives frames of the right form or one plain reason, nothing else
happens, and the next video is decoded as ever.

The files are made here, from seeds: real mp4, mov and avi with bytes flipped, fields set to extremes, boxes cut out,
doubled, swapped and nested, ends cut off.
"""

import os
import random
import resource
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_api.errors import InvalidInput
from model_api.processes.video_frames import frames_of
from tests.needs import needs_package
from tests.rigs.polling import wait_until
from tests.rigs.videos import as_file, moving_square

pytestmark = pytest.mark.integration
SOURCES = (
    ("mp4", "libx264"),
    ("mov", "libx264"),
    ("mp4", "libx265"),
    ("mov", "mpeg4"),
    ("avi", "mpeg4"),
    ("avi", "libx264"),
)
PER_SOURCE = 90  # and six sources: 540 files
EXTREMES = (0, 1, 2**7, 2**15 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
NAMES = (b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stco", b"stsz", b"stsc", b"stts", b"avcC", b"tkhd", b"mdhd",
         b"hdlr", b"dref", b"avih", b"strh", b"strf", b"idx1", b"movi", b"LIST", b"mdat", b"elst", b"ctts")  # fmt: skip


def flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 32, 256))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def flip_in_the_head(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 10))):
        content[rng.randrange(min(len(content), 900))] = rng.randrange(256)


def set_a_field(content: bytearray, rng: random.Random) -> None:
    """A number after the name of a box becomes extreme; little-endian in avi."""
    found = [content.find(name) for name in NAMES if content.find(name) >= 0]
    at = rng.choice(found) + rng.choice((-4, 4, 8, 12, 16, 20, 24, 28, 32, 36))
    at = min(max(at, 0), len(content) - 4)
    content[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREMES))


def cut_the_end(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(1, len(content)) :]


def cut_out(content: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(content))
    del content[begin : begin + rng.randrange(1, 4096)]


def double(content: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(content))
    content[begin:begin] = content[begin : begin + rng.randrange(1, 8192)] * rng.choice((1, 2, 20))


def rename_a_box(content: bytearray, rng: random.Random) -> None:
    present = [name for name in NAMES if name in content]
    at = content.index(rng.choice(present))
    content[at : at + 4] = rng.choice(NAMES)


def put_zeros(content: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(content))
    n = min(rng.randrange(1, 3000), len(content) - begin)
    content[begin : begin + n] = bytes([rng.choice((0, 255))]) * n


def nest(content: bytearray, rng: random.Random) -> None:
    """A box in a box in a box, each said to be as long as the file."""
    at = rng.randrange(8, min(len(content), 2000))
    content[at:at] = b"".join(
        struct.pack(">I", rng.choice((8, 16, len(content)))) + rng.choice(NAMES) for _ in range(60)
    )


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits, flip_in_the_head, set_a_field, cut_the_end, cut_out, double, rename_a_box, put_zeros, nest,
)  # fmt: skip


def mutated(source: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    content = bytearray(source)
    for change in rng.sample(CHANGES, rng.choice((1, 1, 2, 3))):
        change(content, rng)
        if len(content) < 64:
            break
    return bytes(content)


def outcome(content: bytes) -> str:
    """`frames`, or the reason. Fails for anything else."""
    with as_file(content) as file:
        try:
            for frame in frames_of(file, max_frames=60, max_wall_s=90):
                assert frame.shape == (112, 112, 3)
                assert frame.dtype == np.uint8
        except InvalidInput as error:
            return f"{error.pointer} {error}"
    return "frames"


@pytest.fixture(scope="module")
def sources() -> list[bytes]:
    needs_package("av")
    from scripts.training.diving.encoding import encode

    return [encode(moving_square(20, 64, 96), container, codec) for container, codec in SOURCES]


def test_no_damaged_video_does_harm(sources: list[bytes], tmp_path: Path) -> None:
    files = [
        mutated(source, 1000 * number + seed) for number, source in enumerate(sources) for seed in range(PER_SOURCE)
    ]
    assert len(set(files)) >= 500
    before = list(Path("/proc/self/fd").iterdir())
    with ThreadPoolExecutor(2) as threads:
        outcomes = Counter(threads.map(outcome, files))
    assert outcomes.pop("frames") > 50  # the damage is no caricature: players would show many of them
    refused: Counter[str] = Counter()
    for reason, n in outcomes.items():
        assert reason.isprintable()
        assert len(reason) < 300
        refused[reason.split(":")[0]] += n
    assert refused.keys() <= {"/upload not a video", "/upload too long", "/upload too large"}, refused
    assert refused["/upload not a video"] > 100
    wait_until(lambda: not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    assert len(list(Path("/proc/self/fd").iterdir())) <= len(before) + 2
    for source in sources:
        assert outcome(source) == "frames"


def test_memory_of_this_process_does_not_grow_with_what_it_refuses(sources: list[bytes]) -> None:
    outcome(mutated(sources[0], 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(30):
        outcome(mutated(sources[seed % len(sources)], seed))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
