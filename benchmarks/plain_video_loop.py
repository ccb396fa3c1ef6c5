"""What one would write first: decode a video whole, then its clips one by one through PyTorch in float32.

`python -m benchmarks.plain_video_loop FOLDER FILE ...` loads the model and reads lines; each makes it judge all the
files, and print the seconds that took and the predictions. Started by benchmarks.videos.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from model_api.compute.video.clips import clip_starts
from model_api.compute.video.config import C3DConfig, read_config
from model_api.compute.video.networks import C3D, R2Plus1D


def clips_of(path: Path) -> torch.Tensor:
    """[clips, 3, 16, 112, 112]"""
    import av

    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture: Any = frame.reformat(width=171, height=128, format="rgb24", interpolation="AREA").to_ndarray()
            frames.append(picture[8:120, 29:141])
    whole = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whole = (whole - mean[:, None, None, None]) / std[:, None, None, None]
    return torch.stack([whole[:, start : start + 16] for start in clip_starts(len(frames))])


def main() -> None:
    folder, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    config = read_config(json.loads((folder / "config.json").read_text()))
    network: nn.Module = C3D(config) if isinstance(config, C3DConfig) else R2Plus1D(config)
    tensors = load_file(folder / "model.safetensors")
    network.load_state_dict(tensors, strict=False)
    network.eval()
    print("ready", flush=True)
    for _ in sys.stdin:
        began, predictions = time.perf_counter(), []
        with torch.inference_mode():
            for file in files:
                features = torch.cat([network(clip[None])[0] for clip in clips_of(file)]).mean(0)
                predictions.append(float(features @ tensors["regression.weight"][0] + tensors["regression.bias"][0]))
        print(json.dumps({"seconds": time.perf_counter() - began, "predictions": predictions}), flush=True)


if __name__ == "__main__":
    main()
