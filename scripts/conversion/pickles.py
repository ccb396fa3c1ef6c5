"""PyTorch's pickled weights as safetensors.

Runs in the sandbox: torch.load(weights_only=True) builds nothing but tensors and plain containers, and what it can be
made to do beyond that, the sandbox refuses.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}  # of a LayerNorm, before 2019


class NotWeights(ValueError):
    """The file holds something else than a model's tensors; says what."""


def convert_pickle(source: Path, target: Path) -> list[str]:
    """Write the tensors of `source` to `target`, read them back and compare each, to the bit. Returns what its author
    should know. Raises NotWeights, OSError, and what torch.load raises."""
    loaded = torch.load(source, map_location="cpu", weights_only=True)
    tensors, notes = named_tensors(loaded)
    save_file(
        {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, target, {"format": "pt"}
    )
    with safe_open(target, framework="pt") as written:
        if set(written.keys()) != set(tensors):
            raise NotWeights("what was written holds other tensors")
        for name, tensor in tensors.items():
            there = written.get_tensor(name)
            if there.dtype != tensor.dtype or not _same_bits(there, tensor):
                raise NotWeights(f"{name} differs from what was read")
    return [f"{len(tensors)} tensors, each compared", *notes]


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to the bit, so that a NaN equals itself."""
    a, b = a.contiguous().flatten(), b.detach().contiguous().flatten()
    return a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def named_tensors(loaded: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Name -> tensor of a state dict, as transformers names them, and what was changed or left out for it. Raises
    NotWeights."""
    notes = []
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            notes.append(f"taken from its {wrapper!r}")
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        raise NotWeights(f"it holds a {type(loaded).__name__}, not named tensors")
    tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    others = sorted(set(loaded) - set(tensors))
    if others:
        notes.append(f"left out, for they are no tensors: {', '.join(others[:5])}")
    if not tensors:
        raise NotWeights("it holds no tensors")
    if odd := [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_quantized]:
        raise NotWeights(f"{odd[0]} is sparse or quantised, which safetensors can't hold")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        notes.append("'module.' (DataParallel's) is taken off every name")
    renamed = {_new_name(name): tensor for name, tensor in tensors.items()}
    if len(renamed) != len(tensors):
        raise NotWeights("two of its names mean the same tensor")
    if set(renamed) != set(tensors):
        notes.append("gamma and beta of its LayerNorms are weight and bias now")
    return renamed, notes


def _new_name(name: str) -> str:
    return re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda match: _OLD_LEAVES[match[1]], name)
