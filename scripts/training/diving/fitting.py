"""Train the small R(2+1)D: clips' faults, whole videos' marks, and whether it is a dive at all, together."""

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

from model_api.compute.video.clips import CLIP_FRAMES, Frames, spread_clip
from model_api.compute.video.config import R2Plus1DConfig
from model_api.compute.video.networks import R2Plus1D, normalise
from scripts.training.diving.dataset import TARGETS, Videos, starts_of, targets

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
CHECKS = 3
MARK_PER_UNIT = 17.0
"""The network's unit: a score is int(prediction x 17), as the field's mark of dives has it."""


@dataclass(frozen=True)
class Recipe:
    minutes: float = 12.0
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    videos_per_step: int = 3
    glances_per_step: int = 10
    seed: int = 1


class Trained(nn.Module):
    """The network, its two heads, and the head of the faults, which training alone needs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = R2Plus1D(CONFIG)
        width = self.network.n_features
        self.regression, self.content = nn.Linear(width, 1), nn.Linear(width, 1)
        self.faults = nn.Linear(width, len(TARGETS))


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
    clips: Tensor  # of the videos first, then one glance each
    owners: list[int]
    marks: Tensor
    values: Tensor
    shown: Tensor
    dives: Tensor


def _step(videos: Videos, dives: npt.NDArray[np.int64], others: npt.NDArray[np.int64], recipe: Recipe,
          random: np.random.Generator) -> _Step:  # fmt: skip
    clips, owners, marks, values, shown = [], [], [], [], []
    for owner, number in enumerate(random.choice(dives, recipe.videos_per_step, replace=False)):
        video = videos.videos[number]
        assert video.faults is not None
        frames = _changed(videos.frames(number), random)
        for start in starts_of(video, int(random.integers(0, 4))):
            clips.append(frames[start : start + CLIP_FRAMES])
            owners.append(owner)
            value, visible = targets(video, start)
            values.append(value)
            shown.append(visible)
        marks.append(video.faults.mark / MARK_PER_UNIT)
    half = recipe.glances_per_step // 2
    glances = [*random.choice(dives, half), *random.choice(others, recipe.glances_per_step - half)]
    clips += [spread_clip(_changed(videos.frames(number), random)) for number in glances]
    return _Step(
        torch.from_numpy(np.stack(clips)),
        owners,
        torch.tensor(marks),
        torch.tensor(values),
        torch.tensor(shown),
        torch.tensor([1.0] * half + [0.0] * (len(glances) - half)),
    )


def _loss(model: Trained, step: _Step) -> tuple[Tensor, dict[str, float]]:
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = model.network(normalise(step.clips, CONFIG.image_mean, CONFIG.image_std))
    features = features.float()
    n = len(step.owners)
    owned = torch.tensor(step.owners)
    averaged = torch.stack([features[:n][owned == owner].mean(0) for owner in range(len(step.marks))])
    mark = F.smooth_l1_loss(model.regression(averaged)[:, 0], step.marks)
    fault = ((model.faults(features[:n]) - step.values).square() * step.shown).sum() / step.shown.sum().clamp(min=1)
    content = F.binary_cross_entropy_with_logits(model.content(features[n:])[:, 0], step.dives)
    parts = {"mark": float(mark.detach()), "faults": float(fault.detach()), "content": float(content.detach())}
    return mark + 6 * fault + content, parts


def fit(videos: Videos, recipe: Recipe, log: Callable[[str], None], check: Callable[[Trained], Mapping[str, Any]]
        ) -> Trained:  # fmt: skip
    """Train for `recipe.minutes` of this thread's processor time; `check` is asked now and then, and logged."""
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    model = Trained()
    with torch.no_grad():
        model.regression.bias.fill_(3.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    dives, others = videos.where(dives=True), videos.where(dives=False)
    began, n, shares, checked = time.process_time(), 0, {"mark": 0.0, "faults": 0.0, "content": 0.0}, 0
    while (done := (time.process_time() - began) / 60 / recipe.minutes) < 1:
        rate = recipe.learning_rate * min(1.0, n / 50) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        loss, parts = _loss(model, _step(videos, dives, others, recipe, random))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        n += 1
        shares = {key: 0.98 * shares[key] + 0.02 * parts[key] for key in shares}
        if n % 50 == 0:
            log(f"{done:4.0%} step {n}: " + ", ".join(f"{key} {value:.3f}" for key, value in shares.items()))
        if int(done * CHECKS) > checked:
            checked = int(done * CHECKS)
            log(f"{done:4.0%} step {n}: {dict(check(model))}")
    return model
