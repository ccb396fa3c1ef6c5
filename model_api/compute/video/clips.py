"""From decoded frames to clips: pure arithmetic on arrays, the same for training and for serving."""

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]

FRAME_WIDTH, FRAME_HEIGHT = 171, 128
"""What every frame is resized to, whatever its own shape."""
CROP = 112
CLIP_FRAMES = 16
MAX_FRAMES = 399


def centre_crop(frames: Frames) -> Frames:
    """[..., 128, 171, 3] -> [..., 112, 112, 3], the middle of each."""
    top, left = (FRAME_HEIGHT - CROP) // 2, (FRAME_WIDTH - CROP) // 2
    return frames[..., top : top + CROP, left : left + CROP, :]


def clip_starts(n_frames: int) -> list[int]:
    """Where the clips of a video begin: one after another; what is left over at the end gets a clip of the last 16
    frames, which overlaps the one before. Empty for fewer than 16 frames."""
    starts = list(range(0, n_frames - CLIP_FRAMES + 1, CLIP_FRAMES))
    if starts and n_frames % CLIP_FRAMES:
        starts.append(n_frames - CLIP_FRAMES)
    return starts


def cut_clips(frames: Frames) -> Frames:
    """[n, 112, 112, 3] -> [clips, 16, 112, 112, 3]."""
    return np.stack([frames[start : start + CLIP_FRAMES] for start in clip_starts(len(frames))])


def spread_clip(frames: Frames) -> Frames:
    """[n, 112, 112, 3] -> [16, 112, 112, 3]: frames from the first to the last at even distances, the whole video at a
    glance. What the content check looks at."""
    chosen: Frames = frames[np.linspace(0, len(frames) - 1, CLIP_FRAMES).round().astype(int)]
    return chosen
