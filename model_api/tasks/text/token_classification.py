"""Task `token-classification`: entities, parts of speech and the like in texts, as transformers' pipeline gives them.

A prediction is a list: with `aggregation_strategy` none one {"entity", "score", "index", "word", "start", "end"} per
token, with simple, first, average or max one {"entity_group", "score", "word", "start", "end"} per entity; `start` and
`end` count characters of the text. Labels in `ignore_labels` (O) are left out. Over-long texts are refused, cut
(`truncate`), or read by windows that share `stride` tokens.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.known_tasks import NO_LABELS
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.encoding import LocatedText
from model_api.tasks.text.entities import Strategy, Window, entities_of, pieces_of, without_overlaps
from model_api.tasks.text.labels import read_labels
from model_api.tasks.text.tokenization import TextTokenizer, read_json
from model_api.tasks.text.tokenizer_facts import read_facts, write_facts
from model_api.tasks.text.windows import check_windows, windows_of

MAX_IGNORED = 1000
MAX_LABELS = 2000  # their scores of every token go to the web process


class TokenOptions(EncoderOptions):
    labels: list[str] | None = Field(None, min_length=1, description="Names of the outputs, in order.")
    aggregation_strategy: Strategy = Field("none", description="What holds where a caller names none.")


class TokenParameters(TextParameters):
    aggregation_strategy: Strategy = Field("none", description="How tokens become entities; none: they don't.")
    ignore_labels: list[str] = Field(["O"], max_length=MAX_IGNORED, description="Labels that aren't shown.")
    stride: int | None = Field(
        None, ge=0, le=100_000, description="Read over-long texts by windows that share so many tokens."
    )


class Entity(BaseModel):
    """Of a token `entity` and `index`, of several `entity_group`. `start` and `end` count characters of the text."""

    entity: str | None = None
    entity_group: str | None = None
    score: float
    index: int | None = Field(None, description="Which token it is; special ones count.")
    word: str
    start: int
    end: int


class TokenWeb(WebSide):
    """Web side. A row is a text, or a window of one."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._labels = token_labels(folder, manifest)
        self._facts = read_facts(folder)
        options = manifest.options
        defaults: dict[str, Any] = {"truncate": bool(options.get("truncate", False))}
        defaults["aggregation_strategy"] = options.get("aggregation_strategy", "none")
        self._defaults = check_defaults(TokenParameters, defaults)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(TokenParameters, parameters, self._defaults)
        if read.stride is not None and read.aggregation_strategy == "none":
            told = "stride needs an aggregation_strategy, by which what windows share is told once"
            raise InvalidInput(told, pointer_to("stride"))
        places = [f"{pointer}/{index}" for index in range(len(inputs))]
        rows: list[Array] = []
        windows: list[list[Window]] = []
        truncated: list[int] = []
        for index, located in enumerate(self._tokenizer.locate(inputs, places)):
            windows.append(self._windows(located, read, places[index]))
            if windows[-1][-1].end < located.inner()[1]:
                truncated.append(index)
            rows += [_row(window) for window in windows[-1]]
            check_windows(len(rows), places[index])
        costs = [len(row) for row in rows]
        context = (list(inputs), windows, read)
        return Prepared(rows, costs, {}, sum(costs), truncated, context)

    def _windows(self, located: LocatedText, read: TokenParameters, place: str) -> list[Window]:
        """Raises InvalidInput at `place` for a text that is too long, or /parameters/stride."""
        start, end = located.inner()
        size = self._tokenizer.max_tokens - (len(located.ids) - (end - start))
        if end - start <= size:
            spans = [(0, end - start)]
        elif read.stride is not None:
            if read.stride >= size:
                told = f"stride must be less than {size}, which is what one window holds of a text"
                raise InvalidInput(told, pointer_to("stride"))
            spans = windows_of(end - start, size, read.stride)
        elif read.truncate:
            spans = [(0, max(size, 0))]
        else:
            told = f"text has {len(located.ids)} tokens, the model takes {self._tokenizer.max_tokens}"
            mend = 'shorten it, or send "parameters": {"truncate": true} or a "stride" for windows'
            raise InvalidInput(f"{told}; {mend}", place)
        return [Window(located, start + first, start + last, start) for first, last in spans]

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        texts, windows, read = prepared.context
        scores = iter(softmax(output) for output in outputs)
        pieces = [
            pieces_of(text, window, next(scores), self._facts)
            for text, of_text in zip(texts, windows, strict=True)
            for window in of_text
        ]
        ignored = frozenset(read.ignore_labels)
        found = iter(entities_of(pieces, read.aggregation_strategy, self._labels, ignored, self._tokenizer.join))
        predictions = []
        for of_text in windows:
            entities = [entity for _ in of_text for entity in next(found)]
            predictions.append(without_overlaps(entities) if len(of_text) > 1 else entities)
        return predictions


def token_labels(folder: Path, manifest: Manifest) -> list[str]:
    """Raises Refused, also where nothing names them."""
    if "labels" not in manifest.options and "id2label" not in read_json(folder / "config.json", {}):
        raise Refused("config.json", NO_LABELS)
    labels = read_labels(folder, manifest)
    if len(labels) > MAX_LABELS:
        raise Refused("config.json", f"it has {len(labels)} labels for every token, at most {MAX_LABELS:,} are served")
    return labels


def _row(window: Window) -> Array:
    """The window's tokens between the text's special ones."""
    ids, (start, end) = window.tokens.ids, window.tokens.inner()
    return np.concatenate([ids[:start], ids[window.start : window.end], ids[end:]])


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


class TokenModel(ModelSide):
    """Model side: float32 logits [length, labels] per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.token_head import load_token_head

        n_labels = len(token_labels(folder, manifest))
        self._head, self.precision_reason = load_token_head(folder, precision, "token-classification", n_labels)
        self.precision = self._head.precision

    def warm(self) -> None:
        self._head.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return self._head.logits(arrays)


class TokenClassification(EncoderTask):
    parameters = TokenParameters
    prediction = list[Entity]
    options = TokenOptions
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "Mrs Example went from Berlin to the office of Example Ltd on Monday. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> TokenWeb:
        return TokenWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> TokenModel:
        return TokenModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        write_facts(folder)


TASK = TokenClassification()
