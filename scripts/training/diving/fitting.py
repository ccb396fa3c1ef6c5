"""Train the small R(2+1)D: what a clip shows of each fault, and at a glance whether it is a dive at all; then, in
closed form, the mark from the mean of a dive's clips."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from model_api.compute.video.clips import CLIP_FRAMES, Frames, cut_clips, spread_clip
from model_api.compute.video.config import R2Plus1DConfig
from model_api.compute.video.networks import R2Plus1D, normalise
from scripts.training.diving.dataset import TARGETS, Video, Videos, targets

Rows = npt.NDArray[np.float64]
CONFIG = R2Plus1DConfig(
    architectures=["R2Plus1DForVideoRegression"],
    content_head=True,
    stem_between=24,
    stem_width=24,
    stem_stride=4,
    widths=[32, 64, 128],
    blocks=[1, 1, 1],
    strides=[2, 2, 2],
)
WEIGHTS = (1.0, 1.0, 1.0, 0.3)  # of the faults: how often a diver turned tells the least of the mark
JUMPS_AS_OFTEN = 4.0
CHECKS = 3  # while it learns
MARK_PER_UNIT = 17.0
"""The network's unit: a score is int(prediction x 17), as the field's mark of dives has it."""


@dataclass(frozen=True)
class Recipe:
    minutes: float = 4.5
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    clips_per_step: int = 8
    glances_per_step: int = 6
    seed: int = 1


class Trained(nn.Module):
    """The network, its two heads, and those that training alone needs: each fault, and whether it is to be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.network = R2Plus1D(CONFIG)
        width = self.network.n_features
        self.regression, self.content = nn.Linear(width, 1), nn.Linear(width, 1)
        self.faults, self.shown = nn.Linear(width, len(TARGETS)), nn.Linear(width, len(TARGETS))


def _changed(frames: Frames, random: np.random.Generator) -> Frames:
    """Mirrored, moved by some pixels, lit otherwise: the same dive still."""
    if random.random() < 0.5:
        frames = frames[:, :, ::-1]
    dy, dx = random.integers(-4, 5, 2)
    frames = np.roll(frames, (int(dy), int(dx)), axis=(1, 2))
    if random.random() < 0.5:
        levels = np.arange(256) * random.uniform(0.8, 1.2, (3, 1)) + random.uniform(-15, 15)
        table = np.clip(levels, 0, 255).astype(np.uint8)
        frames = np.stack([table[channel][frames[..., channel]] for channel in range(3)], axis=-1)
    return frames


@dataclass
class _Step:
    clips: Tensor  # of dives, then glances at dives, then glances at others
    values: Tensor  # of all that is of a dive
    shown: Tensor
    dives: Tensor  # of the glances


def _step(videos: Videos, dives: npt.NDArray[np.int64], others: npt.NDArray[np.int64], recipe: Recipe,
          random: np.random.Generator) -> _Step:  # fmt: skip
    clips, values, shown = [], [], []
    for number in random.choice(dives, recipe.clips_per_step, replace=False):
        video = videos.videos[number]
        start = _a_start(video, random)
        clips.append(_changed(videos.frames(number)[start : start + CLIP_FRAMES], random))
        value, visible = targets(video, start)
        values.append(value)
        shown.append(visible)
    half = recipe.glances_per_step // 2
    for number in random.choice(dives, half, replace=False):
        clips.append(_changed(spread_clip(videos.frames(number)), random))
        values.append(targets(videos.videos[number], 0)[0])
        shown.append([1.0] * len(TARGETS))
    n_others = recipe.glances_per_step - half
    chosen = random.choice(others, n_others, p=_shares(videos, others))
    clips += [_changed(spread_clip(videos.frames(number)), random) for number in chosen]
    return _Step(
        torch.from_numpy(np.stack(clips)),
        torch.tensor(values),
        torch.tensor(shown),
        torch.tensor([1.0] * half + [0.0] * n_others),
    )


def _shares(videos: Videos, others: npt.NDArray[np.int64]) -> Rows:
    """How often to show each: a jump looks most like a dive, and takes the most looking at."""
    weights = np.array([JUMPS_AS_OFTEN if videos.videos[number].kind == "jump" else 1.0 for number in others])
    shares: Rows = weights / weights.sum()
    return shares


def _a_start(video: Video, random: np.random.Generator) -> int:
    """Mostly around the entry, which shows the most."""
    last = video.n_frames - CLIP_FRAMES
    if random.random() < 0.3:
        return int(random.integers(0, last + 1))
    return int(np.clip(random.integers(video.entry - 14, video.entry + 3), 0, last))


def _features(network: R2Plus1D, clips: Tensor) -> Tensor:
    """As the network's own forward, the large layers in bfloat16. The last one is left in float32: of a convolution
    over two moments, torch's bfloat16 gives weights' gradients that are wrong, now and then infinite (seen in 2.13)."""
    *wide, last = (network.get_submodule(f"layer{number}") for number in range(1, network.n_layers + 1))
    with torch.autocast("cpu", torch.bfloat16):
        states = network.stem(clips)
        for layer in wide:
            states = layer(states)
    features: Tensor = last(states.float()).mean(dim=(2, 3, 4))
    return features


def _loss(model: Trained, step: _Step) -> tuple[Tensor, dict[str, float]]:
    features = _features(model.network, normalise(step.clips, CONFIG.image_mean, CONFIG.image_std))
    of_dives, glances = features[: len(step.values)], features[-len(step.dives) :]
    asked = step.shown * torch.tensor(WEIGHTS)
    fault = ((model.faults(of_dives) - step.values).square() * asked).sum() / asked.sum().clamp(min=1)
    seen = F.binary_cross_entropy_with_logits(model.shown(of_dives), step.shown)
    content = F.binary_cross_entropy_with_logits(model.content(glances)[:, 0], step.dives)
    parts = {"faults": float(fault.detach()), "shown": float(seen.detach()), "content": float(content.detach())}
    return 15 * fault + 0.5 * seen + content, parts


def fit(model: Trained, videos: Videos, recipe: Recipe, log: Callable[[str], None],
        check: Callable[[Trained], Mapping[str, Any]]) -> None:  # fmt: skip
    """Train for `recipe.minutes` of this thread's processor time; `check` is asked now and then, and logged."""
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    dives, others = videos.where(dives=True), videos.where(dives=False)
    began, n, checked = time.process_time(), 0, 0
    means: dict[str, float] = {}
    while (done := (time.process_time() - began) / 60 / recipe.minutes) < 1:
        rate = recipe.learning_rate * min(1.0, n / 40) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        loss, parts = _loss(model, _step(videos, dives, others, recipe, random))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        n += 1
        means = {key: 0.97 * means.get(key, value) + 0.03 * value for key, value in parts.items()}
        if n % 50 == 0:
            log(f"{done:4.0%} step {n}: " + ", ".join(f"{key} {value:.3f}" for key, value in means.items()))
        if int(done * CHECKS) > checked:
            checked = int(done * CHECKS)
            fit_regression(model, videos, 200)
            log(f"{done:4.0%} step {n}: {dict(check(model))}")
    fit_regression(model, videos, len(videos))


def averaged_features(model: Trained, frames: Frames) -> npt.NDArray[np.float32]:
    """What serving averages: [n, 112, 112, 3] -> [F]."""
    model.eval()
    with torch.inference_mode():
        clips = torch.from_numpy(cut_clips(frames))
        found: npt.NDArray[np.float32] = (
            _features(model.network, normalise(clips, CONFIG.image_mean, CONFIG.image_std)).mean(0).numpy()
        )
    return found


def fit_regression(model: Trained, videos: Videos, at_most: int) -> None:
    """The regression layer, in closed form: ridge from the averaged features of whole dives to their marks, its
    strength chosen by leaving a fifth out in turn."""
    numbers = videos.where(dives=True)[:at_most]
    x = np.stack([averaged_features(model, videos.frames(number)) for number in numbers]).astype(np.float64)
    marks = [faults.mark for number in numbers if (faults := videos.videos[number].faults) is not None]
    y = np.array(marks) / MARK_PER_UNIT
    folds = np.arange(len(y)) % 5

    def miss(strength: float) -> float:
        left_out = [(_ridge(x[folds != fold], y[folds != fold], strength), fold) for fold in range(5)]
        return sum(float(np.square(x[folds == f] @ w + b - y[folds == f]).sum()) for (w, b), f in left_out)

    weights, bias = _ridge(x, y, min((0.1, 1.0, 10.0, 100.0, 1000.0), key=miss))
    with torch.no_grad():
        model.regression.weight.copy_(torch.from_numpy(weights)[None])
        model.regression.bias.fill_(bias)


def _ridge(x: Rows, y: Rows, strength: float) -> tuple[Rows, float]:
    mean, spread = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / spread
    weights = np.linalg.solve(z.T @ z + strength * np.eye(x.shape[1]), z.T @ (y - y.mean())) / spread
    return weights, float(y.mean() - mean @ weights)
