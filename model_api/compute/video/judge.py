"""A video model as it serves: weights checked, normalisation folded into the convolutions, in the type that computes.

Model side only: imports torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from model_api.compute.processor import choose_precision
from model_api.compute.video.config import C3DConfig, R2Plus1DConfig, read_config
from model_api.compute.video.networks import C3D, R2Plus1D, VideoNetwork, normalise
from model_api.compute.weights import WeightReader
from model_api.compute.weights import read_config as read_json_config

Floats = npt.NDArray[np.float32]
Clips = npt.NDArray[np.uint8]

CLIPS_AT_ONCE = 4  # of one forward: more take memory (0.1 GB each, of C3D), and no less time
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_COUNTS = "num_batches_tracked"  # of batch normalisation: for training alone


class VideoJudge:
    """Clips to features, features to a prediction. One thread."""

    def __init__(self, network: VideoNetwork, regression: nn.Linear, content: nn.Linear | None,
                 config: C3DConfig | R2Plus1DConfig, precision: str) -> None:  # fmt: skip
        """Takes the network over: it is folded and cast in place."""
        self.precision = precision
        self._mean, self._std = config.image_mean, config.image_std
        self._type = _TYPES[precision]
        self.n_features, self.n_classes = network.n_features, config.n_classes
        _fold_normalisation(network)
        self._network = network.eval().to(self._type).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._regression, self._content = regression.eval(), None if content is None else content.eval()

    @classmethod
    def load(cls, folder: Path, asked: str) -> tuple["VideoJudge", str | None]:
        """And why it isn't in the precision that was asked for. Raises Refused."""
        config = read_config(read_json_config(folder))
        precision = choose_precision(asked)
        reason = "video networks aren't served in int8" if precision == "int8" else None
        with torch.device("meta"):
            network: VideoNetwork = C3D(config) if isinstance(config, C3DConfig) else R2Plus1D(config)
            heads = {"regression": nn.Linear(network.n_features, 1)}
            if config.content_head:
                heads["content"] = nn.Linear(network.n_features, 1)
        weights = WeightReader(folder)
        _fill(network, weights, "")
        for name, head in heads.items():
            _fill(head, weights, f"{name}.")
        settled = choose_precision("auto") if reason else precision
        return cls(network, heads["regression"], heads.get("content"), config, settled), reason

    def rows(self, clips: Sequence[Clips]) -> list[Floats]:
        """Of each clip [16, 112, 112, 3]: its features, then the content head's answer (0 to 1) if there is one, then
        the classes' shares (together 1) if there are any."""
        found: list[Floats] = []
        with torch.inference_mode():
            for begin in range(0, len(clips), CLIPS_AT_ONCE):
                batch = torch.from_numpy(np.stack(clips[begin : begin + CLIPS_AT_ONCE]))
                found.extend(self._rows(normalise(batch, self._mean, self._std)).numpy())
        return found

    def _rows(self, clips: Tensor) -> Tensor:
        states = clips.to(self._type).contiguous(memory_format=torch.channels_last_3d)
        features, scores = self._network(states)
        parts = [features.float()]
        if self._content is not None:
            parts.append(torch.sigmoid(self._content(parts[0])))
        if scores is not None:
            parts.append(torch.softmax(scores.float(), dim=1))
        return torch.cat(parts, dim=1)

    def prediction(self, features: Floats) -> Floats:
        """[n_features], averaged over a video's clips -> [1], in float32 whatever the clips were computed in."""
        with torch.inference_mode():
            found: Floats = self._regression(torch.from_numpy(np.asarray(features, np.float32).copy())).numpy()
        return found


def _fill(module: nn.Module, weights: WeightReader, prefix: str) -> None:
    """Give a module made without memory its tensors, in float32. Raises Refused for one missing or misshapen."""
    tensors = {
        name: weights.copy(prefix + name, tuple(value.shape))
        for name, value in module.state_dict().items()
        if not name.endswith(_COUNTS)
    }
    counts = {name: torch.zeros((), dtype=torch.long) for name in module.state_dict() if name.endswith(_COUNTS)}
    module.load_state_dict({**tensors, **counts}, assign=True)


def _fold_normalisation(module: nn.Module) -> None:
    """Batch normalisation that is done with learning is a factor and a sum: the convolution before takes them over."""
    if isinstance(module, nn.Sequential):
        before: nn.Module | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                convolution = before[-1] if isinstance(before, nn.Sequential) else before
                assert isinstance(convolution, nn.Conv3d)
                _fold(convolution, child)
                setattr(module, name, nn.Identity())
            before = child
    for child in module.children():
        _fold_normalisation(child)


def _fold(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
