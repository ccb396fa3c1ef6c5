"""C3D and R(2+1)D as feature extractors with linear heads.

Sources: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (2015); Tran et al., "A Closer
Look at Spatiotemporal Convolutions for Action Recognition" (2018). Parameters are named as the field's checkpoints
name them: C3D's `conv1` … `conv5b`, `fc6` …; for R(2+1)D `stem.0`, `layer1.0.conv1.0.0` ….
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from model_api.compute.video.config import C3DConfig, R2Plus1DConfig

C3D_CONVOLUTIONS = {
    "conv1": (3, 64),
    "conv2": (64, 128),
    "conv3a": (128, 256),
    "conv3b": (256, 256),
    "conv4a": (256, 512),
    "conv4b": (512, 512),
    "conv5a": (512, 512),
    "conv5b": (512, 512),
}
_POOL_AFTER: dict[str, tuple[int, int, int]] = {"conv1": (1, 2, 2)} | dict.fromkeys(
    ("conv2", "conv3b", "conv4b"), (2, 2, 2)
)
C3D_POOLED = 8192  # 512 channels of 1 x 4 x 4


class VideoNetwork(nn.Module):
    """What both networks are: [n, 3, 16, 112, 112] -> features [n, n_features] and, where the network has outputs for
    classes, their scores before the softmax [n, n_classes]."""

    n_features: int

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


class C3D(VideoNetwork):
    """Features are those of `feature_layer`: pool5 (8192), fc6 or fc7. Classes: fc8, behind all of them."""

    def __init__(self, config: C3DConfig) -> None:
        super().__init__()
        for name, (channels, width) in C3D_CONVOLUTIONS.items():
            self.add_module(name, nn.Conv3d(channels, width, kernel_size=3, padding=1))
        widths = {"pool5": C3D_POOLED}
        before = C3D_POOLED
        for name, width in zip(("fc6", "fc7"), config.hidden_sizes, strict=False):
            self.add_module(name, nn.Linear(before, width))
            widths[name] = before = width
        self.fc8 = nn.Linear(before, config.n_classes) if config.n_classes else None
        self.feature_layer = config.feature_layer
        self.n_features = widths[config.feature_layer]
        self.hidden = tuple(widths)[1:]

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        states = clips
        for name in C3D_CONVOLUTIONS:
            states = F.relu(self.get_submodule(name)(states), inplace=True)
            if name in _POOL_AFTER:
                states = F.max_pool3d(states, _POOL_AFTER[name], _POOL_AFTER[name])
        found = {"pool5": F.max_pool3d(states, 2, 2, padding=(0, 1, 1)).flatten(1)}
        last = found["pool5"]
        for name in self.hidden:
            last = found[name] = F.relu(self.get_submodule(name)(last))
        return found[self.feature_layer], None if self.fc8 is None else self.fc8(last)


class _Conv2Plus1D(nn.Sequential):
    """A convolution over the frame, and one over time; `between` channels pass from one to the other."""

    def __init__(self, channels: int, between: int, width: int, stride: int) -> None:
        super().__init__(
            nn.Conv3d(channels, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(between),
            nn.ReLU(inplace=True),
            nn.Conv3d(between, width, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        between = (channels * width * 27) // (channels * 9 + 3 * width)  # as many parameters as 3 x 3 x 3 would have
        self.conv1 = nn.Sequential(
            _Conv2Plus1D(channels, between, width, stride), nn.BatchNorm3d(width), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(_Conv2Plus1D(width, between, width, 1), nn.BatchNorm3d(width))
        self.downsample = (
            nn.Sequential(nn.Conv3d(channels, width, 1, stride, bias=False), nn.BatchNorm3d(width))
            if stride != 1 or channels != width
            else None
        )

    def forward(self, states: Tensor) -> Tensor:
        beside = states if self.downsample is None else self.downsample(states)
        return F.relu(self.conv2(self.conv1(states)) + beside)


class R2Plus1D(VideoNetwork):
    """Features are the means over time and space of the last layer, `widths[-1]` wide. Classes: fc."""

    def __init__(self, config: R2Plus1DConfig) -> None:
        super().__init__()
        stride = config.stem_stride
        self.stem = nn.Sequential(
            nn.Conv3d(3, config.stem_between, (1, 7, 7), (1, stride, stride), (0, 3, 3), bias=False),
            nn.BatchNorm3d(config.stem_between),
            nn.ReLU(inplace=True),
            nn.Conv3d(config.stem_between, config.stem_width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(config.stem_width),
            nn.ReLU(inplace=True),
        )
        channels = config.stem_width
        self.n_layers = len(config.widths)
        for number, (width, blocks, step) in enumerate(
            zip(config.widths, config.blocks, config.strides, strict=True), start=1
        ):
            layer = [_Block(channels, width, step), *(_Block(width, width, 1) for _ in range(blocks - 1))]
            self.add_module(f"layer{number}", nn.Sequential(*layer))
            channels = width
        self.fc = nn.Linear(channels, config.n_classes) if config.n_classes else None
        self.n_features = channels

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        states = self.stem(clips)
        for number in range(1, self.n_layers + 1):
            states = self.get_submodule(f"layer{number}")(states)
        features = states.mean(dim=(2, 3, 4))
        return features, None if self.fc is None else self.fc(features)


def normalise(clips: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [n, 16, h, w, 3] -> float32 [n, 3, 16, h, w]: levels of 0 to 1, minus `mean`, over `std`."""
    scale = torch.tensor(std) * 255
    return ((clips.float() - torch.tensor(mean) * 255) / scale).permute(0, 4, 1, 2, 3)
