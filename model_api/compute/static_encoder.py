"""StaticEmbedding, as model2vec makes it: a text's vector is the mean of its tokens' rows. Model side only: imports
torch; the same interface as Encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.encoder import TokenIds
from model_api.compute.weights import WeightReader
from model_api.errors import Refused
from model_api.repository.loaded_files import SINGLE_FILE

_TABLES = ("embedding.weight", "embeddings")  # sentence-transformers' name for it, and model2vec's


class StaticEncoder:
    """One table of float32 rows, mapped from its file where it is stored so."""

    precision = "float32"

    def __init__(self, table: torch.Tensor) -> None:
        self._table = table
        self.vocabulary, self.hidden_size = table.shape

    @classmethod
    def load(cls, folder: Path) -> StaticEncoder:
        """Raises Refused for a folder without such a table, or with more than it."""
        reader = WeightReader(folder)
        name = next((name for name in _TABLES if name in reader), "")
        others = sorted(set(reader.names) - {name})
        if not name or others:
            told = f"tensor {others[0]!r} isn't served" if name else f"no tensor {_TABLES[0]!r}"
            raise Refused(SINGLE_FILE, f"{told}: a StaticEmbedding is one table")
        shape = reader.shape(name)
        if len(shape) != 2:
            raise Refused(SINGLE_FILE, f"tensor {name!r} has the shape {shape}, not that of a table")
        return cls(reader.tensor(name, shape).float())

    def warm(self) -> None:
        """Nothing to prepare."""

    def pooled(
        self, sequences: Sequence[TokenIds], poolings: str | Sequence[str] = (), skipped: int = 0
    ) -> npt.NDArray[np.float32]:
        """[sequences, hidden]: the mean, whatever the pooling."""
        vectors = np.empty((len(sequences), self.hidden_size), np.float32)
        with torch.inference_mode():
            for number, ids in enumerate(sequences):
                vectors[number] = self._table[torch.from_numpy(np.asarray(ids, np.int64))].mean(0).numpy()
        return vectors
