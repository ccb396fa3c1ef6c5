"""Task `fill-mask`: which tokens may stand where a text has its mask, as transformers' pipeline gives them.

A text holds the model's mask token once, or the caller's own word for it (`mask`). A prediction is a list, best first:
[{"score", "token", "token_str", "sequence"}], of the whole vocabulary or of `targets` alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.tokenization import TextTokenizer, check_text
from model_api.tasks.text.tokenizer_facts import TokenizerFacts, read_facts, write_facts

USUAL_TOP_K = 5
MAX_TOP_K = 1000
MAX_TARGETS = 1000
MAX_TARGET_CHARS = 200
MAX_SHOWN = 5000  # of one request: each is a text that is put together


class FillingParameters(TextParameters):
    top_k: int = Field(USUAL_TOP_K, ge=1, le=MAX_TOP_K, description="Show so many of the best tokens.")
    targets: list[str] | None = Field(
        None,
        min_length=1,
        max_length=MAX_TARGETS,
        description="The tokens to choose among; of a word, its first.",
    )
    mask: str | None = Field(
        None, min_length=1, max_length=100, description="What stands in the texts for the model's mask token."
    )


class Filling(BaseModel):
    """`token` is its id, `sequence` the text with it."""

    score: float
    token: int
    token_str: str
    sequence: str


def mask_of(folder: Path) -> TokenizerFacts:
    """Raises Refused for a tokenizer without a mask token."""
    facts = read_facts(folder)
    if facts.mask_id is None:
        raise Refused("tokenizer_config.json", "its tokenizer names no mask_token, so there is none to fill")
    return facts


class FillingWeb(WebSide):
    """Web side. A row is a text; the forward knows the targets, and finds the mask by itself."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits, limits.max_text_chars)
        self._facts = mask_of(folder)
        self._limits = limits
        self._defaults = check_defaults(FillingParameters, {"truncate": bool(manifest.options.get("truncate", False))})

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(FillingParameters, parameters, self._defaults)
        targets = self._target_ids(read.targets) if read.targets is not None else None
        n_shown = read.top_k if targets is None else min(read.top_k, len(targets))
        if n_shown * len(inputs) > MAX_SHOWN:
            told = f"{len(inputs)} texts with {n_shown} tokens each, at most {MAX_SHOWN:,} are shown"
            raise InvalidInput(f"{told}; send the texts in several requests", pointer_to("top_k"))
        places = [f"{pointer}/{index}" for index in range(len(inputs))]
        texts = []
        for text, place in zip(inputs, places, strict=True):
            check_text(text, place, self._limits.max_text_chars)
            texts.append(text.replace(read.mask, self._facts.mask_token, 2) if read.mask else text)
        tokens = self._tokenizer.encode(texts, places, read.truncate)
        for index, (ids, place) in enumerate(zip(tokens.ids, places, strict=True)):
            self._check_mask(int(np.count_nonzero(ids == self._facts.mask_id)), read, place, index in tokens.truncated)
        forward: dict[str, Any] = {"top_k": n_shown} if targets is None else {"targets": targets}
        costs = [len(ids) for ids in tokens.ids]
        context = (tokens.ids, targets, n_shown)
        return Prepared(tokens.ids, costs, forward, sum(costs), tokens.truncated, context)

    def _check_mask(self, n_masks: int, read: FillingParameters, place: str, was_cut: bool) -> None:
        if n_masks == 1:
            return
        wanted = repr(read.mask or self._facts.mask_token)
        if n_masks > 1:
            raise InvalidInput(f"text holds more than one mask ({wanted}): send a text for each", place)
        if was_cut:
            raise InvalidInput(f"no mask ({wanted}) stands in the {self._tokenizer.max_tokens} tokens kept", place)
        mend = "" if read.mask else ', or name what you write for it: "parameters": {"mask": "___"}'
        raise InvalidInput(f"text holds no mask: write {wanted} where a token is to be found{mend}", place)

    def _target_ids(self, targets: Sequence[str]) -> list[int]:
        places = [f"{pointer_to('targets')}/{number}" for number in range(len(targets))]
        for target, place in zip(targets, places, strict=True):
            check_text(target, place, MAX_TARGET_CHARS)
        found = list(self._tokenizer.ids_of(targets))
        unknown = [number for number, index in enumerate(found) if index is None]
        if unknown:
            bare = self._tokenizer.encode_bare([targets[i] for i in unknown], [places[i] for i in unknown])
            for number, ids in zip(unknown, bare, strict=True):
                found[number] = int(ids[0])
        return sorted({index for index in found if index is not None})

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        rows, targets, n_shown = prepared.context
        predictions = []
        for ids, output in zip(rows, outputs, strict=True):
            if targets is None:
                candidates, logs = output[0].astype(np.int64), output[1]
            else:
                order = np.argsort(-output, kind="stable")[:n_shown]
                candidates, logs = np.array(targets)[order], output[order]
            predictions.append(
                [self._filled(ids, int(token), float(np.exp(log))) for token, log in zip(candidates, logs, strict=True)]
            )
        return predictions

    def _filled(self, ids: Array, token: int, score: float) -> dict[str, Any]:
        filled = np.where(ids == self._facts.mask_id, token, ids)
        kept = filled if self._facts.padding_id is None else filled[filled != self._facts.padding_id]
        return {
            "score": score,
            "token": token,
            "token_str": self._decode([token], skip_special=False),
            "sequence": self._decode(kept.tolist(), skip_special=True),
        }

    def _decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        text = self._tokenizer.decode(ids, skip_special)
        return clean_up(text) if self._facts.cleans_up else text


def clean_up(text: str) -> str:
    """Without the spaces that word pieces leave before punctuation and English endings; the library's list."""
    for written, read in ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't")):
        text = text.replace(written, read)
    for ending in ("'m", "'s", "'ve", "'re"):
        text = text.replace(f" {ending}", ending)
    return text


class FillingModel(ModelSide):
    """Model side: float32 log-probabilities at the mask of each row: [targets], or [2, top_k] with their ids first."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.mask_head import load_mask_head

        mask_id = mask_of(folder).mask_id
        assert mask_id is not None
        self._mask_id = mask_id
        self._head, self.precision_reason = load_mask_head(folder, precision)
        self.precision = self._head.precision

    def warm(self) -> None:
        self._head.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        places = [int(np.flatnonzero(row == self._mask_id)[0]) for row in arrays]
        return [_chosen(logs, parameters) for logs in self._head.log_probabilities(arrays, places)]


def _chosen(logs: Array, parameters: Mapping[str, Any]) -> Array:
    if "targets" in parameters:
        return np.asarray(logs[parameters["targets"]])
    top_k = min(int(parameters["top_k"]), len(logs))
    best = np.argpartition(-logs, top_k - 1)[:top_k]
    best = best[np.lexsort((best, -logs[best]))]
    return np.stack([best.astype(np.float32), logs[best]])


class FillMask(EncoderTask):
    parameters = FillingParameters
    prediction = list[Filling]
    options = EncoderOptions
    warm_inputs = (
        "___",
        "A sentence of ___ length to warm up with.",
        "What a ___ day! " + "The train was on time and everybody smiled. " * 6,
        "naïve café, 東京, ___ 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {
        "truncate": True,
        "mask": "___",
        "targets": ["the", "a", "of", "is", "good", "day", "train", "1", ",", "."],
    }

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> FillingWeb:
        return FillingWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> FillingModel:
        return FillingModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        write_facts(folder)


TASK = FillMask()
