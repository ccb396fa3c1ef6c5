"""Task `extractive-summarization`: the sentences of an article that stand closest to all of it, in their order.

Runs on any encoder that serves `embedding`: each sentence's score is the cosine of its vector with the mean of all
sentences' vectors. Of two sentences that say the same, the second is passed over. A prediction is {"text",
"sentences": [{"text", "start", "end", "score"}]} with character offsets into the article. Parameters: `max_sentences`,
and `truncate` for the scoring of sentences that are longer than the encoder takes (they are shown whole).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters
from model_api.tasks.text.embedding import EmbeddingModel, Pooling, unit_length
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.sentences import split_sentences
from model_api.tasks.text.tokenization import TextTokenizer, check_text

MAX_SENTENCES = 100
MAX_SENTENCES_READ = 50_000  # of all inputs together: each is a row for the encoder
SAME_COSINE = 0.95  # two sentences nearer than this say the same


class ExtractiveOptions(EncoderOptions):
    max_sentences: int = Field(3, ge=1, le=MAX_SENTENCES, description="The longest that a summary may be.")
    pooling: Pooling | None = Field(None, description="As of the task embedding.")


class ExtractiveParameters(TextParameters):
    max_sentences: int = Field(3, ge=1, le=MAX_SENTENCES, description="The longest that a summary may be.")


class Sentence(BaseModel):
    """`start` and `end` count characters of the article."""

    text: str
    start: int
    end: int
    score: float


class ExtractiveSummary(BaseModel):
    """The chosen sentences, and their texts joined."""

    text: str
    sentences: list[Sentence]


class ExtractiveWeb(WebSide):
    """Web side. A row is a sentence; `context` is the articles, their spans, and how many sentences are wanted."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._limits = limits
        defaults = {
            "max_sentences": manifest.options.get("max_sentences", 3),
            "truncate": bool(manifest.options.get("truncate", False)),
        }
        self._defaults = check_defaults(ExtractiveParameters, defaults)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(ExtractiveParameters, parameters, self._defaults)
        rows: list[Array] = []
        spans, truncated, n_sentences = [], [], 0
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self._limits.max_text_chars)
            spans.append(split_sentences(text))
            n_sentences += len(spans[-1])
            if n_sentences > MAX_SENTENCES_READ:
                raise InvalidInput(f"more than {MAX_SENTENCES_READ:,} sentences up to here", f"{pointer}/{index}")
            if not spans[-1]:
                raise InvalidInput("text is empty but for characters that can't be seen", f"{pointer}/{index}")
            sentences = [text[start:end] for start, end in spans[-1]]
            try:
                tokens = self._tokenizer.encode(sentences, "", read.truncate)
            except InvalidInput as error:
                raise InvalidInput(f"a sentence: {error}", f"{pointer}/{index}") from None
            rows += tokens.ids
            if tokens.truncated:
                truncated.append(index)
        costs = [len(row) for row in rows]
        context = (list(inputs), spans, read.max_sentences)
        return Prepared(rows, costs, {}, sum(costs), truncated, context)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        predictions, first = [], 0
        for text, spans in zip(*prepared.context[:2], strict=True):
            vectors = unit_length(np.stack(outputs[first : first + len(spans)]))
            first += len(spans)
            predictions.append(summary(text, spans, vectors, prepared.context[2]))
        return predictions


def summary(text: str, spans: Sequence[tuple[int, int]], vectors: Array, max_sentences: int) -> dict[str, Any]:
    """The prediction for one article; `vectors` [sentences, hidden_size] have length 1."""
    scores = vectors @ unit_length(vectors.mean(axis=0, keepdims=True))[0]
    chosen: list[int] = []
    for number in np.argsort(-scores, kind="stable"):
        if len(chosen) == max_sentences:
            break
        if not chosen or float(np.max(vectors[chosen] @ vectors[number])) < SAME_COSINE:
            chosen.append(int(number))
    sentences = [
        {"text": text[spans[i][0] : spans[i][1]], "start": spans[i][0], "end": spans[i][1], "score": float(scores[i])}
        for i in sorted(chosen)
    ]
    return {"text": " ".join(str(sentence["text"]) for sentence in sentences), "sentences": sentences}


class ExtractiveSummarization(EncoderTask):
    parameters = ExtractiveParameters
    prediction = ExtractiveSummary
    options = ExtractiveOptions
    warm_inputs = (
        "The bridge was closed on Monday. Engineers had found cracks in it! Will it open again? Nobody knows.",
        "One sentence only",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> ExtractiveWeb:
        return ExtractiveWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> EmbeddingModel:
        return EmbeddingModel(folder, manifest, precision)


TASK = ExtractiveSummarization()
