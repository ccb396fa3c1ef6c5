"""Generating token ids from token ids: by CTranslate2, or by transformers. Model side only.

Greedy and beam search are deterministic. CTranslate2's beam search ends when as many sequences are complete as there
are beams, and what a constraint forbids has no probability (transformers' early_stopping and renormalize_logits);
`same_as_transformers` tells where that matters. A sampled row depends on its seed and its text alone.
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
from model_api.repository.generation_settings import GenerationSettings

TokenIds = npt.NDArray[np.int32]
NOT_FINITE = "the model gives NaN"
SAMPLED_AT_A_TIME = 8  # rows, each on a thread of its own


@dataclass(frozen=True)
class Search:
    """How to generate; lengths in tokens, the end token included. `seed` is None unless sampling was asked for. A text
    begins with `start_id`, which isn't among what is generated, and its first token is `first_id` where that is
    given."""

    num_beams: int
    min_new_tokens: int
    max_new_tokens: int
    length_penalty: float
    no_repeat_ngram_size: int
    temperature: float
    seed: int | None
    repetition_penalty: float = 1.0
    early_stopping: bool | str = True
    renormalize: bool = True
    start_id: int | None = None
    first_id: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Search":
        return cls(**parameters)


class Generator(Protocol):
    precision: str

    def generate(self, rows: Sequence[TokenIds], search: Search) -> list[TokenIds]:
        """New tokens of each row, with the end token where one was reached."""


def same_as_transformers(search: Search, settings: GenerationSettings) -> bool:
    """Whether CTranslate2 in float32 gives the tokens of transformers' `generate`."""
    if search.num_beams == 1:
        return True
    constrained = search.min_new_tokens > 0 or search.no_repeat_ngram_size > 0 or bool(settings.forbidden)
    return (
        search.early_stopping is True
        and search.repetition_penalty == 1.0
        and settings.forced_eos_id is None
        and (search.renormalize or not constrained)
    )


class CTranslate2Generator:
    """Make it after the last fork: CTranslate2 starts threads and doesn't survive a fork."""

    def __init__(self, folder: Path, precision: str, settings: GenerationSettings, threads: int | None = None) -> None:
        """`settings` are the model's own; `threads`: None for one per core."""
        self._folder, self._settings = folder, settings
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
        all_began, began = threading.Barrier(len(rows)), set[int]()

        def on_token(_: Any) -> bool:
            """Python's thread-local variables don't last from one call of a foreign thread to the next."""
            if threading.get_ident() not in began:
                began.add(threading.get_ident())
                all_began.wait()
            return False

        return self._translate(self._open(workers=len(rows)), rows, search, max_batch_size=1, callback=on_token)

    def _translate(self, translator: Any, rows: Sequence[TokenIds], search: Search, **more: Any) -> list[TokenIds]:
        start = self._settings.start_id if search.start_id is None else search.start_id
        first = [] if search.first_id is None else [search.first_id]
        if len(first) >= search.max_new_tokens:
            return [self._ended(first, search) for _ in rows]
        if search.seed is not None:
            more |= {"sampling_topk": 0, "sampling_temperature": search.temperature}
        if search.repetition_penalty != 1.0:
            more["repetition_penalty"] = search.repetition_penalty
        if self._settings.forbidden:
            more["suppress_sequences"] = [[str(token) for token in word] for word in self._settings.forbidden]
        if self._settings.end_ids:
            more["end_token"] = [str(token) for token in self._settings.end_ids]
        results = translator.translate_batch(
            [[str(token) for token in row.tolist()] for row in rows],
            target_prefix=[[str(token) for token in (start, *first)]] * len(rows),
            beam_size=search.num_beams,
            min_decoding_length=search.min_new_tokens,
            max_decoding_length=search.max_new_tokens,
            length_penalty=search.length_penalty,
            no_repeat_ngram_size=search.no_repeat_ngram_size,
            return_end_token=True,
            return_scores=True,
            max_input_length=0,
            **more,
        )
        if not all(math.isfinite(result.scores[0]) for result in results):
            raise FloatingPointError(NOT_FINITE)
        return [self._ended([int(token) for token in result.hypotheses[0]], search) for result in results]

    def _ended(self, ids: list[int], search: Search) -> TokenIds:
        """With the last token that is forced where the longest that is allowed was reached."""
        if self._settings.forced_eos_id is not None and len(ids) >= search.max_new_tokens:
            ids[-1] = self._settings.forced_eos_id
        return np.array(ids, np.int32)


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
            "repetition_penalty": search.repetition_penalty,
            "num_return_sequences": 1,
            "renormalize_logits": search.renormalize,
        }
        if search.num_beams > 1:
            arguments |= {"length_penalty": search.length_penalty, "early_stopping": search.early_stopping}
        if search.start_id is not None:
            arguments["decoder_start_token_id"] = search.start_id
        if search.first_id is not None:
            arguments["forced_bos_token_id"] = search.first_id
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
