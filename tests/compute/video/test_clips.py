"""Frames to clips."""

import numpy as np
import pytest

from model_api.compute.video.clips import centre_crop, clip_starts, cut_clips, spread_clip


@pytest.mark.parametrize(
    ("n", "starts"),
    [(0, []), (15, []), (16, [0]), (17, [0, 1]), (32, [0, 16]), (40, [0, 16, 24]), (47, [0, 16, 31])],
)
def test_clips_follow_one_another_and_the_last_frame_is_always_in_one(n: int, starts: list[int]) -> None:
    assert clip_starts(n) == starts


def test_clips_hold_their_frames_in_order() -> None:
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    clips = cut_clips(frames)
    assert clips.shape == (3, 16, 2, 2, 3)
    assert clips[:, :, 0, 0, 0].tolist() == [list(range(16)), list(range(16, 32)), list(range(24, 40))]
    spread = spread_clip(frames)[:, 0, 0, 0].tolist()
    assert (spread[0], spread[-1], len(spread)) == (0, 39, 16)
    assert set(np.diff(spread)) <= {2, 3}
    assert spread_clip(frames[:16])[:, 0, 0, 0].tolist() == list(range(16))


def test_the_crop_is_of_the_middle() -> None:
    frame = np.zeros((128, 171, 3), np.uint8)
    frame[8:120, 29:141] = 1
    assert centre_crop(frame).shape == (112, 112, 3)
    assert centre_crop(frame).all()
    assert centre_crop(frame[None]).shape == (1, 112, 112, 3)
