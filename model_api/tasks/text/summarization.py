"""Task `summarization`: articles to summaries, by a sequence-to-sequence model.

A prediction is {"text", "tokens", "finish_reason"}: the generated tokens, and "stop" or, where `max_new_tokens` cut
it, "length". Deterministic unless `temperature` is given, which samples; with `seed` a sample can be had again.

The manifest's options: `prefix` (put before every article; default: the config's own for summarization, else none),
`generation` (defaults of the parameters, instead of the model's own), `long_input`, `precision` (int8 or float32),
`engine` ("ctranslate2", or "transformers"), `truncate`, `max_tokens` (of an article with its prefix).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model_api.errors import InvalidInput
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, Prepared
from model_api.tasks.parameters import pointer_to
from model_api.tasks.text.generation_parameters import GenerationParameters, read_generation, search_of
from model_api.tasks.text.sequence_to_sequence import (
    SequenceToSequence,
    SequenceToSequenceOptions,
    SequenceToSequenceWeb,
)
from model_api.tasks.text.tokenization import Tokens, check_text, read_json

MAX_WINDOWS = 200  # of a request
LongInput = Literal["refuse", "truncate", "windows"]


class SummarizationParameters(GenerationParameters):
    long_input: LongInput | None = Field(
        None, description="What becomes of a text beyond the model's length; windows: a summary of each part, joined."
    )


class SummarizationOptions(SequenceToSequenceOptions):
    long_input: LongInput | None = Field(None, description="What becomes of long texts, where a request doesn't say.")


class SummarizationWeb(SequenceToSequenceWeb):
    """Web side. A row is an article with its prefix, or a window of it; `context` is the longest that a summary may
    be, in tokens, and how many rows each article has."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        config = read_json(folder / "config.json", {})
        own = (config.get("task_specific_params") or {}).get("summarization", {})
        self._prefix = str(manifest.options.get("prefix", own.get("prefix", "")))
        self._own = {"long_input": manifest.options.get("long_input")}
        super().__init__(folder, manifest, limits, more_chars=len(self._prefix))

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        own = {} if parameters.get("truncate") else self._own
        read = read_generation(parameters, {**self.defaults, **own}, self.most_new_tokens, SummarizationParameters)
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self.limits.max_text_chars)
        tokens, rows = self._rows([self._prefix + text for text in inputs], pointer, read)
        n_tokens = sum(len(ids) for ids in tokens.ids)
        costs = [len(ids) + read.max_new_tokens for ids in tokens.ids]
        search = search_of(read.model_dump(), self.settings)
        return Prepared(tokens.ids, costs, search, n_tokens, tokens.truncated, context=(read.max_new_tokens, rows))

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        most, rows = prepared.context
        parts = iter(self.predictions(outputs, most))
        return [_joined([next(parts) for _ in range(count)]) for count in rows]

    def _rows(self, texts: Sequence[str], pointer: str, read: SummarizationParameters) -> tuple[Tokens, list[int]]:
        """What is generated from, and how many rows each text has. Raises InvalidInput."""
        if read.long_input != "windows":
            cut = read.truncate if read.long_input is None else read.long_input == "truncate"
            return self.tokenizer.encode(texts, pointer, cut), [1] * len(texts)
        windows = self.tokenizer.encode_windows(texts, pointer, self._prefix)
        counts = [len(rows) for rows in windows]
        if sum(counts) > MAX_WINDOWS:
            told = f"the texts make {sum(counts)} windows, at most {MAX_WINDOWS} are summarised by a request"
            raise InvalidInput(told, pointer_to("long_input"))
        return Tokens([row for rows in windows for row in rows], []), counts


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One prediction of those of an article's windows, in their order."""
    cut = any(part["finish_reason"] == "length" for part in parts)
    text = " ".join(part["text"] for part in parts if part["text"])
    n_tokens = sum(part["tokens"] for part in parts)
    return {"text": text, "tokens": n_tokens, "finish_reason": "length" if cut else "stop"}


class Summarization(SequenceToSequence):
    parameters = SummarizationParameters
    options = SummarizationOptions
    warm_inputs = (
        "warm",
        "The bridge over the river was closed on Monday. Engineers had found cracks in two of its pillars. " * 3,
    )

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> SummarizationWeb:
        return SummarizationWeb(folder, manifest, limits)


TASK = Summarization()
