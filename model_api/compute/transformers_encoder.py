"""Any other encoder architecture, computed by transformers: the same interface as Encoder, slower.

Model side only, one thread. transformers is imported on load, which takes seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.encoder import TokenIds
from model_api.compute.encoder_shape import DTYPES
from model_api.compute.pooling import pool
from model_api.compute.positions import most_tokens
from model_api.compute.unread_tensors import check_unread
from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE, SINGLE_FILE

# Families with a decoder whose encoder answers alone, as in sentence-transformers: its class.
_OWN_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
    "m2m_100": "models.m2m_100.modeling_m2m_100.M2M100Encoder",
    "pegasus": "models.pegasus.modeling_pegasus.PegasusEncoder",
    "marian": "models.marian.modeling_marian.MarianEncoder",
}


def load_pretrained(model_class: str, folder: Path, precision: str) -> tuple[Any, Any]:
    """transformers' model of that class and its loading notes. Raises Refused. Runs no code from the folder."""
    WeightReader(folder)  # refuses a folder without whole safetensors, in our words
    import transformers

    place, _, name = f"transformers.{model_class}".rpartition(".")
    try:
        model, notes = getattr(importlib.import_module(place), name).from_pretrained(
            folder,
            dtype=DTYPES[precision],
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ValueError, OSError, RuntimeError, KeyError, AttributeError, ImportError, TypeError) as error:
        known = getattr(transformers, "__version__", "")
        why = f"transformers {known} can't load it ({type(error).__name__}: {str(error)[:300]})"
        raise Refused(CONFIG_FILE, why) from error
    return model, notes


def check_notes(notes: Mapping[str, Any], model: Any, with_head: bool) -> None:
    """Raises Refused where a tensor is missing, which transformers makes up at random, or is read by no part. Without a
    head a pooler doesn't matter: it isn't used."""
    missing = sorted(name for name in notes["missing_keys"] if with_head or "pooler" not in name)
    if missing:
        raise Refused(SINGLE_FILE, f"tensor {missing[0]!r} is missing")
    prefix = f"{model.base_model_prefix}."
    check_unread(notes["unexpected_keys"], prefix if prefix != "." else "", () if with_head else None)


class ReferenceEncoder:
    """One text at a time and unpadded, so that here too an answer doesn't depend on the batch."""

    def __init__(self, model: Any, precision: str, max_tokens: int | None) -> None:
        self._model = model
        self.precision = precision
        self.hidden_size: int = model.config.hidden_size
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, folder: Path, precision: str) -> ReferenceEncoder:
        """Raises Refused where transformers can't make an encoder of the folder. Runs no code from it."""
        config = read_config(folder)
        model, notes = load_pretrained(_OWN_ENCODERS.get(config["model_type"], "AutoModel"), folder, precision)
        check_notes(notes, model, with_head=False)
        return cls(model.eval(), precision, most_tokens(config))

    def warm(self) -> None:
        """Nothing to prepare: transformers has no state that fills up with use."""

    def hidden_states(self, sequences: Sequence[TokenIds]) -> list[torch.Tensor]:
        """As Encoder.hidden_states."""
        for sequence in sequences:
            if not 1 <= len(sequence) <= (self.max_tokens or len(sequence)):
                raise ValueError(f"a sequence of {len(sequence)} tokens; 1 to {self.max_tokens} are possible")
        with torch.inference_mode():
            return [self._one(torch.from_numpy(np.asarray(s, np.int64))) for s in sequences]

    def _one(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self._model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None])[0]
        return states[0].float()

    def pooled(
        self, sequences: Sequence[TokenIds], poolings: str | Sequence[str], skipped: int = 0
    ) -> npt.NDArray[np.float32]:
        """As Encoder.pooled."""
        if not sequences:
            n_poolings = 1 if isinstance(poolings, str) else len(poolings)
            return np.empty((0, n_poolings * self.hidden_size), np.float32)
        states = self.hidden_states(sequences)
        return np.stack([pool(rows, [len(rows)], poolings, skipped)[0].numpy() for rows in states])
