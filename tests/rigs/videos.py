"""Videos made here, and small networks with random weights that judge them."""

import json
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from model_api.compute.video.config import C3DConfig, R2Plus1DConfig
from model_api.compute.video.networks import C3D, R2Plus1D, VideoNetwork

Pictures = npt.NDArray[np.uint8]

SMALL = {"stem_between": 6, "stem_width": 8, "stem_stride": 4, "widths": [8, 16], "blocks": [1, 2], "strides": [2, 2]}


def moving_square(n: int = 40, height: int = 96, width: int = 128, seed: int = 0) -> Pictures:
    """[n, height, width, 3]: a bright square crosses a grainy wall."""
    random = np.random.default_rng(seed)
    wall = random.integers(0, 80, (height, width, 3)).astype(np.uint8)
    pictures = np.repeat(wall[None], n, axis=0)
    side, colour = min(height, width) // 4, random.integers(120, 256, 3)
    for number in range(n):
        left = int((width - side) * number / max(n - 1, 1))
        pictures[number, height // 3 : height // 3 + side, left : left + side] = colour
    return pictures


def as_file(content: bytes) -> BinaryIO:
    """An open file at its beginning, which nobody else has."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who asked for it, or with the process
    file.write(content)
    file.flush()
    file.seek(0)
    return file


def small_network(**changes: Any) -> tuple[VideoNetwork, R2Plus1DConfig]:
    """An R(2+1)D whose normalisation has seen something, ready to answer."""
    torch.manual_seed(5)
    config = R2Plus1DConfig.model_validate({**SMALL, **changes})
    network = R2Plus1D(config)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.5)
        for _ in range(3):
            network(torch.randn(2, 3, 16, 112, 112))
    return network.eval(), config


def save_network(folder: Path, network: VideoNetwork, config: C3DConfig | R2Plus1DConfig) -> dict[str, torch.Tensor]:
    """As an author would: safetensors with its heads, and config.json. The tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    generator = torch.Generator().manual_seed(6)
    for head in ("regression", *(["content"] if config.content_head else [])):
        tensors[f"{head}.weight"] = torch.randn((1, network.n_features), generator=generator)
        tensors[f"{head}.bias"] = torch.randn(1, generator=generator)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    kind = "C3D" if config.model_type == "c3d" else "R2Plus1D"
    document = config.model_dump() | {"architectures": [f"{kind}ForVideoRegression"]}
    (folder / "config.json").write_text(json.dumps(document))
    return tensors


def small_video_model(folder: Path, **changes: Any) -> Path:
    """A folder to publish: a small R(2+1)D."""
    save_network(folder, *small_network(**changes))
    return folder


def small_c3d(**changes: Any) -> tuple[C3D, C3DConfig]:
    """Of full width, as C3D has no other; made in a moment, since its weights are zeros but for a few."""
    config = C3DConfig.model_validate(changes)
    torch.manual_seed(7)
    return C3D(config).eval(), config
