"""Generating token ids from token ids: by CTranslate2, or by transformers. Model side only.

Greedy and beam search are deterministic. Beam search ends when as many sequences are complete as there are beams, and
what a constraint forbids has no probability (transformers' early_stopping and renormalize_logits). A sampled row
depends on its seed and its text alone.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model_api.compute.processor import available_cores

TokenIds = npt.NDArray[np.int32]
NOT_FINITE = "the model gives NaN"
SAMPLED_AT_A_TIME = 8  # rows, each on a thread of its own


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

    def __init__(self, folder: Path, precision: str, threads: int | None = None) -> None:
        """`threads`: None for one per core."""
        self._folder = folder
        self.precision = precision
        self._threads = threads or available_cores()
        self._translator: Any = self._open(workers=1)  # None after sampling: the weights are never here twice

    def _open(self, workers: int) -> Any:
        import ctranslate2

        return ctranslate2.Translator(
            str(self._folder),
            device="cpu",
            compute_type=self.precision,
            inter_threads=workers,
            intra_threads=max(1, self._threads // workers),
        )

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        if search.seed is None:
            self._translator = self._translator or self._open(workers=1)
            return self._translate(self._translator, rows, search)
        generated = []
        for start in range(0, len(rows), SAMPLED_AT_A_TIME):
            generated += self._sample(rows[start : start + SAMPLED_AT_A_TIME], search)
        return generated

    def _sample(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        """A worker thread of CTranslate2's takes the seed once, before its first draw. So each row gets a worker that
        has never drawn: the model is loaded anew with a worker per row, and no row goes on after its first token
        before every row has a worker."""
        import ctranslate2

        ctranslate2.set_random_seed(search.seed)
        self._translator = None
        all_began = threading.Barrier(len(rows))

        def on_token(step: Any) -> bool:
            if step.step == 0:
                all_began.wait()
            return False

        return self._translate(self._open(workers=len(rows)), rows, search, max_batch_size=1, callback=on_token)

    def _translate(self, translator: Any, rows: Sequence[TokenIds], search: Search, **more: Any) -> list[TokenIds]:
        sampling = {} if search.seed is None else {"sampling_topk": 0, "sampling_temperature": search.temperature}
        results = translator.translate_batch(
            [[str(token) for token in row.tolist()] for row in rows],
            beam_size=search.num_beams,
            min_decoding_length=search.min_new_tokens,
            max_decoding_length=search.max_new_tokens,
            length_penalty=search.length_penalty,
            no_repeat_ngram_size=search.no_repeat_ngram_size,
            return_end_token=True,
            return_scores=True,
            max_input_length=0,
            **sampling,
            **more,
        )
        if not all(math.isfinite(result.scores[0]) for result in results):
            raise FloatingPointError(NOT_FINITE)
        return [np.array([int(token) for token in result.hypotheses[0]], np.int32) for result in results]


def _refuse_nan(_: Any, scores: Any) -> Any:
    """A transformers.LogitsProcessor. What a search chooses among NaNs is a token like any other."""
    if scores.isnan().any():
        raise FloatingPointError(NOT_FINITE)
    return scores


class TransformersGenerator:
    """The reference, and the fall-back for what CTranslate2 doesn't know. A row at a time and unpadded, float32."""

    precision = "float32"

    def __init__(self, folder: Path) -> None:
        """Raises Refused where transformers can't make a sequence-to-sequence model of the folder."""
        from model_api.compute.transformers_encoder import check_notes, load_pretrained

        model, notes = load_pretrained("AutoModelForSeq2SeqLM", folder, "float32")
        check_notes(notes, model, with_head=True)
        self._model = model.eval()

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        import torch

        arguments: dict[str, Any] = {
            "logits_processor": [_refuse_nan],
            "num_beams": search.num_beams,
            "do_sample": search.seed is not None,
            "min_new_tokens": search.min_new_tokens,
            "max_new_tokens": search.max_new_tokens,
            "no_repeat_ngram_size": search.no_repeat_ngram_size,
        }
        if search.num_beams > 1:
            arguments |= {"length_penalty": search.length_penalty, "early_stopping": True, "renormalize_logits": True}
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
