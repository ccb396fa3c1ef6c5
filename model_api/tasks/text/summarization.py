"""Task `summarization`: articles to summaries, by a T5-family model.

A prediction is {"text", "tokens", "finish_reason"}: the generated tokens, and "stop" or, where `max_new_tokens` cut
it, "length". Deterministic unless `temperature` is given, which samples; with `seed` a sample can be had again.

The manifest's options: `prefix` (put before every article; default: the config's own for summarization, else none),
`generation` (defaults of the parameters), `precision` (int8 or float32), `engine` ("ctranslate2", or "transformers"),
`truncate`, `max_tokens` (of an article with its prefix).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from model_api.errors import Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, Task, WebSide
from model_api.tasks.options import Options
from model_api.tasks.text.generation_parameters import (
    Generated,
    GenerationParameters,
    generation_defaults,
    is_repeatable,
    read_generation,
)
from model_api.tasks.text.tokenization import TextTokenizer, check_text, read_json

ENGINES = ("ctranslate2", "transformers")


class SummarizationOptions(Options):
    precision: Literal["int8", "float32"] | None = Field(None, description="Type of the weights.")
    engine: Literal["ctranslate2", "transformers"] = Field("ctranslate2", description="What generates.")
    generation: dict[str, Any] = Field({}, description="Defaults of the request's parameters.")
    prefix: str | None = Field(None, description="Put before every article. Default: the config's own.")


class SummarizationWeb(WebSide):
    """Web side. A row is an article with its prefix; `context` is the longest that a summary may be, in tokens."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        config = read_json(folder / "config.json", {})
        own = (config.get("task_specific_params") or {}).get("summarization", {})
        self._prefix = str(manifest.options.get("prefix", own.get("prefix", "")))
        self._tokenizer = TextTokenizer(folder, manifest.options, limits, more_chars=len(self._prefix))
        self._limits = limits
        self._defaults = generation_defaults(manifest)
        self._end_id = config.get("eos_token_id", 1)

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        return is_repeatable(parameters)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_generation(parameters, self._defaults)
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self._limits.max_text_chars)
        tokens = self._tokenizer.encode([self._prefix + text for text in inputs], pointer, read.truncate)
        n_tokens = sum(len(ids) for ids in tokens.ids)
        costs = [len(ids) + read.max_new_tokens for ids in tokens.ids]
        return Prepared(tokens.ids, costs, read.model_dump(exclude={"truncate"}), n_tokens, tokens.truncated)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        return [self._prediction(output) for output in outputs]

    def _prediction(self, output: Array) -> dict[str, Any]:
        ids = output.tolist()
        ended = bool(ids) and ids[-1] == self._end_id
        text = self._tokenizer.decode(ids).strip()
        return {"text": text, "tokens": len(ids), "finish_reason": "stop" if ended else "length"}


class SummarizationModel(ModelSide):
    """Model side: generated token ids per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.conversion import conversion_path
        from model_api.compute.generation import Generator, TransformersGenerator

        self._generator: Generator | None = None
        self.precision = checked_type(manifest, precision)
        self._converted = conversion_path(folder, self.precision)
        self.fork_safe = not uses_ctranslate2(manifest, folder, self.precision)
        if self.fork_safe:
            self._generator = TransformersGenerator(folder)
            self.precision = self._generator.precision

    def after_fork(self) -> None:
        from model_api.compute.generation import CTranslate2Generator
        from model_api.compute.processor import yield_the_processor

        yield_the_processor()
        if self._generator is None:
            self._generator = CTranslate2Generator(self._converted, self.precision)

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        from model_api.compute.generation import Search

        assert self._generator is not None
        return self._generator.generate(arrays, Search.of(parameters))


def checked_type(manifest: Manifest, precision: str) -> str:
    """The weights' type that is served. Raises Refused for one, or for an engine, that isn't known."""
    from model_api.compute.conversion import TYPES

    asked, engine = weights_type(manifest, precision), manifest.options.get("engine", ENGINES[0])
    if asked not in TYPES or engine not in ENGINES:
        raise Refused("manifest.json", f"precision {asked!r} with engine {engine!r} is not served")
    return asked


def uses_ctranslate2(manifest: Manifest, folder: Path, weights: str) -> bool:
    """Whether CTranslate2 serves it; where that doesn't know the architecture, transformers does."""
    from model_api.compute.conversion import is_convertible

    return manifest.options.get("engine", ENGINES[0]) == ENGINES[0] and is_convertible(folder, weights)


def weights_type(manifest: Manifest, precision: str) -> str:
    """What the manifest asks for, else what the instance's `precision` comes to."""
    return str(manifest.options.get("precision", "float32" if precision == "float32" else "int8"))


class Summarization(Task):
    parameters = GenerationParameters
    prediction = Generated
    options = SummarizationOptions
    warm_inputs = (
        "warm",
        "The bridge over the river was closed on Monday. Engineers had found cracks in two of its pillars. " * 3,
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}
    long_running = True
    compares_to_float32 = False

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> SummarizationWeb:
        return SummarizationWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> SummarizationModel:
        return SummarizationModel(folder, manifest, precision)

    def needs_conversion(self, folder: Path, manifest: Manifest, precision: str) -> bool:
        from model_api.compute.conversion import is_converted

        weights = checked_type(manifest, precision)
        return uses_ctranslate2(manifest, folder, weights) and not is_converted(folder, weights)

    def convert(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.conversion import convert

        convert(folder, checked_type(manifest, precision))

    def loading_bytes(self, folder: Path, manifest: Manifest, precision: str) -> int:
        """A conversion that lies there already needn't be paid for again."""
        from model_api.compute import conversion

        weights = weights_type(manifest, precision)
        made = conversion.loading_bytes(folder, weights) if weights in conversion.TYPES else None
        return manifest.memory_bytes if made is None else min(made, manifest.memory_bytes)


TASK = Summarization()
