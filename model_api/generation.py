"""Generating token ids from token ids: by CTranslate2, or by transformers. Model side only.

Greedy and beam search are deterministic. Beam search ends when as many sequences are complete as there are beams
(transformers' early_stopping=True). A sampled row depends on its seed and its text alone.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model_api.errors import Refused
from model_api.settings import available_cores
from model_api.weights import CONFIG_FILE, WeightReader

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Search:
    """How to generate; lengths in tokens, the end token included. `seed` is None unless sampling was asked for."""

    num_beams: int
    min_new_tokens: int
    max_new_tokens: int
    length_penalty: float
    no_repeat_ngram_size: int
    temperature: float
    seed: int | None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Search":
        return cls(**parameters)


class Generator(Protocol):
    precision: str

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        """New tokens of each row, with the end token where one was reached."""


class CTranslate2Generator:
    """Make it after the last fork: CTranslate2 starts threads and doesn't survive a fork."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._folder = folder
        self.precision = precision
        self._translator = self._open()

    def _open(self) -> Any:
        import ctranslate2

        return ctranslate2.Translator(
            str(self._folder), device="cpu", compute_type=self.precision, intra_threads=available_cores()
        )

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        if search.seed is None:
            return self._translate(self._translator, rows, search)
        import ctranslate2

        generated = []
        for row in rows:
            # A thread of CTranslate2's takes the seed once, before its first draw: each row gets fresh threads.
            ctranslate2.set_random_seed(search.seed)
            generated += self._translate(self._open(), [row], search)
        return generated

    def _translate(self, translator: Any, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        sampling = {} if search.seed is None else {"sampling_topk": 0, "sampling_temperature": search.temperature}
        results = translator.translate_batch(
            [[str(token) for token in row.tolist()] for row in rows],
            beam_size=search.num_beams,
            min_decoding_length=search.min_new_tokens,
            max_decoding_length=search.max_new_tokens,
            length_penalty=search.length_penalty,
            no_repeat_ngram_size=search.no_repeat_ngram_size,
            return_end_token=True,
            max_input_length=0,
            **sampling,
        )
        return [np.array([int(token) for token in result.hypotheses[0]], np.int32) for result in results]


class TransformersGenerator:
    """The reference, and the fall-back for what CTranslate2 doesn't know. A row at a time and unpadded, float32."""

    precision = "float32"

    def __init__(self, folder: Path) -> None:
        """Raises Refused where transformers can't make a sequence-to-sequence model of the folder."""
        WeightReader(folder)  # refuses a folder without whole safetensors, in our words
        import torch
        from transformers import AutoModelForSeq2SeqLM

        try:
            self._model = AutoModelForSeq2SeqLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            ).eval()
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            raise Refused(CONFIG_FILE, f"transformers can't load it ({type(error).__name__}: {error})") from error

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        import torch

        arguments: dict[str, Any] = {
            "num_beams": search.num_beams,
            "do_sample": search.seed is not None,
            "min_new_tokens": search.min_new_tokens,
            "max_new_tokens": search.max_new_tokens,
            "no_repeat_ngram_size": search.no_repeat_ngram_size,
        }
        if search.num_beams > 1:
            arguments |= {"length_penalty": search.length_penalty, "early_stopping": True}
        if search.seed is not None:
            arguments |= {"temperature": search.temperature, "top_k": 0, "top_p": 1.0}
        generated = []
        with torch.inference_mode():
            for row in rows:
                if search.seed is not None:
                    torch.manual_seed(search.seed)
                ids = torch.from_numpy(row.astype(np.int64))[None]
                new = self._model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **arguments)[0, 1:]
                generated.append(new.numpy().astype(np.int32))
        return generated


def yield_the_processor() -> None:
    """Generation takes seconds and every core; a request that takes milliseconds must not wait behind it."""
    os.nice(10)
