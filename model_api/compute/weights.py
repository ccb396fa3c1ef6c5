"""Read tensors from a model folder's safetensors, one at a time.

Model side only: imports torch. The files are mapped, never read whole: they must lie in the local store, because a
mapping of a shared file system dies with it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE, INDEX_FILE, SINGLE_FILE, reader_of, weight_map


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises Refused naming it."""
    return _read_json(folder, CONFIG_FILE)


class WeightReader:
    """The tensors of one folder, whether in model.safetensors or in the shards that its index names.

    Mapped pages stay resident while a reader or an uncopied tensor of it lives; drop both when done with them.
    """

    def __init__(self, folder: Path) -> None:
        """Opens every file. Raises Refused naming the file that is absent or no safetensors."""
        shard_of = weight_map(*reader_of(folder))
        self._home = SINGLE_FILE if shard_of is None else INDEX_FILE
        self._open: dict[str, Any] = {}
        for file in (SINGLE_FILE,) if shard_of is None else sorted(set(shard_of.values())):
            self._add(folder, file)
        self._file_of = shard_of or dict.fromkeys(self._open[SINGLE_FILE].keys(), SINGLE_FILE)

    def _add(self, folder: Path, file: str) -> None:
        try:
            self._open[file] = safe_open(folder / file, framework="pt")
        except FileNotFoundError as error:
            raise Refused(file, "named by the index, but not in the folder") from error
        except (SafetensorError, OSError) as error:
            raise Refused(file, f"no readable safetensors file ({error})") from error

    @property
    def names(self) -> Collection[str]:
        """Of all tensors, in whichever file."""
        return self._file_of.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that is there."""
        return tuple(self._open[self._file_of[name]].get_slice(name).get_shape())

    def tensor(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor as stored, backed by the mapping. Raises Refused naming file and tensor unless it has `shape`."""
        file = self._file_of.get(name)
        if file is None:
            raise Refused(self._home, f"tensor {name!r} is missing")
        try:
            tensor: torch.Tensor = self._open[file].get_tensor(name)
        except SafetensorError as error:
            raise Refused(file, f"tensor {name!r} can't be read ({error})") from error
        if tuple(tensor.shape) != shape:
            raise Refused(file, f"tensor {name!r} has the shape {tuple(tensor.shape)}, config.json says {shape}")
        if not tensor.is_floating_point():
            raise Refused(file, f"tensor {name!r} holds {tensor.dtype}; only floating point weights are served")
        return tensor

    def copy(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The tensor in `dtype`, independent of the mapping. Raises Refused as `tensor` does."""
        return self.tensor(name, shape).to(dtype, copy=True)


def _read_json(folder: Path, file: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / file).read_bytes())
    except FileNotFoundError as error:
        raise Refused(file, "not in the folder") from error
    except (OSError, ValueError) as error:
        raise Refused(file, f"not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise Refused(file, "not a JSON object")
    return content
