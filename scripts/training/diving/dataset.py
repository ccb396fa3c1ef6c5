"""The videos a network learns from: drawn once, passed through files, kept in one mapped file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_api.compute.video.clips import CLIP_FRAMES, CROP, Frames
from scripts.training.diving.encoding import as_served
from scripts.training.diving.scenes import Faults, draw_videos

FRAME_BYTES = CROP * CROP * 3
TARGETS = ("lean", "splash", "parting", "somersaults")
"""What a clip is asked for beside the mark, as far as it shows it."""


@dataclass(frozen=True)
class Video:
    """Where its frames lie in the mapped file, and what is known of it."""

    first: int
    n_frames: int
    kind: str
    faults: Faults | None
    entry: int


class Videos:
    """Frames stay on the disk until they are asked for."""

    def __init__(self, path: Path, videos: list[Video]) -> None:
        self.videos = videos
        n = sum(video.n_frames for video in videos)
        self._frames = np.memmap(path, np.uint8, "r", shape=(n, CROP, CROP, 3))

    def __len__(self) -> int:
        return len(self.videos)

    def frames(self, number: int) -> Frames:
        video = self.videos[number]
        return np.asarray(self._frames[video.first : video.first + video.n_frames])

    def where(self, dives: bool) -> npt.NDArray[np.int64]:
        return np.array([n for n, video in enumerate(self.videos) if (video.faults is not None) == dives])


def make(path: Path, seed: int, dives: int, others: int, size: tuple[int, int], log: Callable[[str], None]) -> Videos:
    """Draw them into `path`, or go on where an earlier call with the same numbers stopped. `size`: height and width
    drawn."""
    about, first_line = path.with_suffix(".jsonl"), {"seed": seed, "dives": dives, "others": others, "size": list(size)}
    lines = [json.loads(line) for line in about.read_text().splitlines()] if about.exists() else []
    if not lines or lines[0] != first_line:
        lines = [first_line]
        path.write_bytes(b"")
        about.write_text(json.dumps(first_line) + "\n")
    videos = [_read(row) for row in lines[1:]]
    with path.open("r+b") as file, about.open("a") as notes:
        n_frames = sum(video.n_frames for video in videos)
        file.truncate(n_frames * FRAME_BYTES)
        file.seek(0, 2)
        for number, drawn in draw_videos(seed, dives, others, *size, begin=len(videos)):
            frames = as_served(drawn.frames, np.random.default_rng((seed, number, 1)))
            file.write(frames.tobytes())
            file.flush()
            videos.append(Video(n_frames, len(frames), drawn.kind, drawn.faults, drawn.entry))
            notes.write(json.dumps(_written(videos[-1])) + "\n")
            notes.flush()
            n_frames += len(frames)
            if number % 100 == 99:
                log(f"drawn {number + 1} of {dives + others} videos")
    return Videos(path, videos)


def _written(video: Video) -> list[Any]:
    faults = None if video.faults is None else [getattr(video.faults, name) for name in TARGETS]
    return [video.first, video.n_frames, video.kind, faults, video.entry]


def _read(row: list[Any]) -> Video:
    first, n_frames, kind, faults, entry = row
    return Video(first, n_frames, kind, Faults(*faults) if faults else None, entry)


def targets(video: Video, start: int) -> tuple[list[float], list[float]]:
    """What the clip from `start` shows of each of TARGETS, and 1 where it shows it."""
    assert video.faults is not None
    values = [video.faults.lean, video.faults.splash, video.faults.parting, (video.faults.somersaults - 1.5) / 2]

    def overlap(begin: float, end: float) -> float:
        return min(end, start + CLIP_FRAMES) - max(begin, start)

    entry = video.entry
    shown = (
        overlap(entry * 0.8, entry + 2) >= 3,
        overlap(entry + 2, entry + 14) >= 4,
        overlap(1, entry) >= 4,
        overlap(3, entry * 0.75) >= 10,
    )
    return values, [float(there) for there in shown]
