"""How good it is on videos it never saw: the rank correlation of its marks, and what it lets through."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.video.clips import Frames, cut_clips, spread_clip
from model_api.compute.video.networks import normalise
from scripts.training.diving.dataset import Videos
from scripts.training.diving.fitting import CONFIG, MARK_PER_UNIT, Trained

TARGET_SPEARMAN, TARGET_REFUSED = 0.8, 0.95


def ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """1 for the smallest; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[inverse]


def spearman(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def judge(model: Trained, frames: Frames) -> tuple[float, float]:
    """[n, 112, 112, 3] -> the mark, and how likely it is a dive. In float32."""
    model.eval()
    with torch.inference_mode():
        clips = np.concatenate([cut_clips(frames), spread_clip(frames)[None]])
        features, _ = model.network(normalise(torch.from_numpy(clips), CONFIG.image_mean, CONFIG.image_std))
        mark = model.regression(features[:-1].mean(0)) * MARK_PER_UNIT
        return float(mark), float(torch.sigmoid(model.content(features[-1])))


def measure(model: Trained, videos: Videos) -> Mapping[str, Any]:
    marks, guesses, refused = [], [], defaultdict(list)
    accepted = []
    for number, video in enumerate(videos.videos):
        mark, likely = judge(model, videos.frames(number))
        if video.faults is None:
            refused[video.kind].append(likely < 0.5)
        else:
            marks.append(video.faults.mark)
            guesses.append(mark)
            accepted.append(likely >= 0.5)
    wrong = np.array(guesses) - np.array(marks)
    return {
        "spearman": round(spearman(np.array(marks), np.array(guesses)), 4),
        "mean_absolute_error": round(float(np.abs(wrong).mean()), 2),
        "spread_of_marks": round(float(np.std(marks)), 2),
        "dives_accepted": round(float(np.mean(accepted)), 4),
        "wrong_content_refused": round(float(np.mean([one for kind in refused.values() for one in kind])), 4),
        "refused_by_kind": {kind: round(float(np.mean(found)), 3) for kind, found in sorted(refused.items())},
        "n_dives": len(marks),
        "n_others": sum(map(len, refused.values())),
    }
