"""Any other encoder architecture, computed by transformers: the same interface as Encoder, slower.

Model side only, one thread. transformers is imported on load, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.encoder import TokenIds
from model_api.compute.encoder_shape import DTYPES
from model_api.compute.pooling import pool
from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE


def load_pretrained(auto_class: str, folder: Path, precision: str) -> tuple[Any, Any]:
    """transformers' model of that class and its loading notes. Raises Refused. Runs no code from the folder."""
    WeightReader(folder)  # refuses a folder without whole safetensors, in our words
    import transformers

    try:
        model, notes = getattr(transformers, auto_class).from_pretrained(
            folder,
            dtype=DTYPES[precision],
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise Refused(CONFIG_FILE, f"transformers can't load it ({type(error).__name__}: {error})") from error
    return model, notes


class ReferenceEncoder:
    """One text at a time and unpadded, so that here too an answer doesn't depend on the batch."""

    def __init__(self, model: Any, precision: str) -> None:
        config = model.config
        self._model = model
        self.precision = precision
        self.hidden_size: int = config.hidden_size
        self.max_tokens = _max_tokens(model)

    @classmethod
    def load(cls, folder: Path, precision: str) -> ReferenceEncoder:
        """Raises Refused where transformers can't make an encoder of the folder. Runs no code from it."""
        read_config(folder)
        model, notes = load_pretrained("AutoModel", folder, precision)
        # A pooler that the file lacks is made up at random; it isn't used here. Anything else missing is.
        missing = sorted(name for name in notes["missing_keys"] if "pooler" not in name)
        if missing:
            raise Refused("model.safetensors", f"tensor {missing[0]!r} is missing")
        return cls(model.eval(), precision)

    def warm(self) -> None:
        """Nothing to prepare: transformers has no state that fills up with use."""

    def hidden_states(self, sequences: Sequence[TokenIds]) -> list[torch.Tensor]:
        """As Encoder.hidden_states."""
        for sequence in sequences:
            if not 1 <= len(sequence) <= self.max_tokens:
                raise ValueError(f"a sequence of {len(sequence)} tokens; 1 to {self.max_tokens} are possible")
        with torch.inference_mode():
            return [self._one(torch.from_numpy(np.asarray(s, np.int64))) for s in sequences]

    def _one(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self._model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None])[0]
        return states[0].float()

    def pooled(self, sequences: Sequence[TokenIds], pooling: str) -> npt.NDArray[np.float32]:
        """As Encoder.pooled."""
        vectors = np.empty((len(sequences), self.hidden_size), np.float32)
        for number, states in enumerate(self.hidden_states(sequences)):
            vectors[number] = pool(states, [len(states)], pooling)[0].numpy()
        return vectors


def _max_tokens(model: Any) -> int:
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return 512
    for name, module in model.named_modules():
        # A position table with a row for padding (MPNet, as RoBERTa) begins after that row.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return limit - int(module.padding_idx) - 1
    return limit
