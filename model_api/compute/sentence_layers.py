"""What sentence-transformers puts after the pooling: Dense, LayerNorm, Normalize. Model side only: imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

from model_api.compute.weights import WeightReader
from model_api.errors import Refused
from model_api.repository.loaded_files import SINGLE_FILE
from model_api.repository.sentence_modules import Layer, join

Apply = Callable[[torch.Tensor], torch.Tensor]


class SentenceLayers:
    """All layers of a model, in order and in float32: they are a thousandth of the work."""

    def __init__(self, folder: Path, layers: Sequence[Layer], size: int) -> None:
        """`size`: of the vectors that go in. Raises Refused naming the file, and the tensor that doesn't fit."""
        self._layers: list[Apply] = []
        for layer in layers:
            try:
                apply, size = _load(folder / layer.folder, layer, size)
            except Refused as error:
                raise Refused(join(layer.folder, error.path), error.reason) from None
            self._layers.append(apply)

    def __call__(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [texts, size of the last layer]; a text's row depends on its own alone."""
        if not self._layers or not len(vectors):
            return vectors
        with torch.inference_mode():
            rows = torch.from_numpy(vectors)
            # Row by row: how many rows there are must not choose another kernel, whose last bits differ.
            return torch.stack([self._one(row) for row in rows]).numpy()

    def _one(self, row: torch.Tensor) -> torch.Tensor:
        for apply in self._layers:
            row = apply(row)
        return row


def _load(folder: Path, layer: Layer, size: int) -> tuple[Apply, int]:
    if layer.kind == "Normalize":
        return lambda row: F.normalize(row, dim=0), size
    reader = WeightReader(folder)
    if layer.kind == "LayerNorm":
        weight, bias = reader.copy("norm.weight", (size,)), reader.copy("norm.bias", (size,))
        _require_no_others(reader, {"norm.weight", "norm.bias"})
        return lambda row: F.layer_norm(row, (size,), weight, bias), size
    return _dense(reader, layer, size)


def _dense(reader: WeightReader, layer: Layer, size: int) -> tuple[Apply, int]:
    config = layer.config
    n_in, n_out = int(config["in_features"]), int(config["out_features"])
    if n_in != size:
        raise Refused("config.json", f"in_features is {n_in}, but what comes before it gives {size}")
    activation = getattr(torch.nn, str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1])()
    weight = reader.copy("linear.weight", (n_out, n_in))
    bias = reader.copy("linear.bias", (n_out,)) if config.get("bias", True) else None
    read = {"linear.weight"} | ({"linear.bias"} if bias is not None else set())
    adds = bool(config.get("use_residual"))
    around = None
    if adds and n_in != n_out:
        around = reader.copy("residual.weight", (n_out, n_in))
        read.add("residual.weight")
    _require_no_others(reader, read)

    def apply(row: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = activation(F.linear(row, weight, bias))
        if adds:
            made = made + (row if around is None else F.linear(row, around))
        return made

    return apply, n_out


def _require_no_others(reader: WeightReader, read: set[str]) -> None:
    unread = sorted(set(reader.names) - read)
    if unread:
        raise Refused(SINGLE_FILE, f"tensor {unread[0]!r} isn't of this module, and would be ignored")
