"""What tasks on sequence-to-sequence models have in common: options, the way of a generated text, engines.

CTranslate2 generates in int8, or in float32 where that gives the tokens of transformers' `generate`. Transformers
itself, in float32, what CTranslate2 can't convert, what a model's generation_config.json says that only transformers
knows, and a float32 model's searches in which the two would differ.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from model_api.compute.positions import most_new_tokens
from model_api.errors import Refused
from model_api.repository.generation_settings import GENERATION_FILE, GenerationSettings
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Task, WebSide
from model_api.tasks.options import Options
from model_api.tasks.text.generation_parameters import (
    Generated,
    GenerationParameters,
    generation_defaults,
    is_repeatable,
    search_of,
)
from model_api.tasks.text.tokenization import TextTokenizer, read_json

ENGINES = ("ctranslate2", "transformers")


class SequenceToSequenceOptions(Options):
    precision: Literal["int8", "float32"] | None = Field(None, description="Type of the weights.")
    engine: Literal["ctranslate2", "transformers"] = Field("ctranslate2", description="What generates.")
    generation: dict[str, Any] = Field({}, description="Defaults of the request's parameters.")
    prefix: str | None = Field(None, description="Put before every text. Default: the config's own.")


def read_settings(folder: Path) -> GenerationSettings:
    """Raises Refused for a file that isn't JSON."""
    generation = read_json(folder / GENERATION_FILE, {}) if (folder / GENERATION_FILE).exists() else None
    return GenerationSettings.of(generation, read_json(folder / "config.json", {}))


class SequenceToSequenceWeb(WebSide):
    """Web side of what generates. A row is a text's ids."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits, more_chars: int = 0) -> None:
        self.config = read_json(folder / "config.json", {})
        self.settings = read_settings(folder)
        self.tokenizer = TextTokenizer(folder, manifest.options, limits, more_chars=more_chars)
        self.limits = limits
        self.most_new_tokens = most_new_tokens(self.config)
        self.defaults = generation_defaults(manifest, self.settings, self.most_new_tokens)

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        return is_repeatable(parameters)

    def predictions(self, outputs: Sequence[Array], most: int) -> list[dict[str, Any]]:
        """`most`: how many tokens each might have."""
        return [self._prediction(output.tolist(), most) for output in outputs]

    def _prediction(self, ids: list[int], most: int) -> dict[str, Any]:
        ended = bool(ids) and ids[-1] in self.settings.end_ids
        forced = self.settings.forced_eos_id is not None and len(ids) >= most  # whatever it would have said
        text = self.tokenizer.decode(ids).strip()
        return {"text": text, "tokens": len(ids), "finish_reason": "stop" if ended and not forced else "length"}


class SequenceToSequenceModel(ModelSide):
    """Model side: generated token ids per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.conversion import conversion_path, why_not_convertible
        from model_api.compute.generation import Generator, TransformersGenerator

        self._folder, self._settings = folder, read_settings(folder)
        self._generator: Generator | None = None
        self._exact: Generator | None = None
        self.precision = checked_type(manifest, precision)
        self._converted = conversion_path(folder, self.precision)
        self.fork_safe = not uses_ctranslate2(manifest, folder, self.precision)
        if self.fork_safe:
            self._generator = TransformersGenerator(folder)
            if self.precision != self._generator.precision:
                self.precision_reason = why_not_convertible(folder, self.precision) or None
                self.precision = self._generator.precision

    def after_fork(self) -> None:
        from model_api.compute.generation import CTranslate2Generator
        from model_api.compute.processor import yield_the_processor

        yield_the_processor()
        if self._generator is None:
            self._generator = CTranslate2Generator(self._converted, self.precision, self._settings)

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        from model_api.compute.generation import Search, TransformersGenerator, same_as_transformers

        assert self._generator is not None
        search = Search.of(parameters)
        if self.fork_safe or self.precision != "float32" or same_as_transformers(search, self._settings):
            return self._generator.generate(arrays, search)
        if self._exact is None:  # only once somebody asks for such a search: it is a second copy of the weights
            self._exact = TransformersGenerator(self._folder)
        return self._exact.generate(arrays, search)


def checked_type(manifest: Manifest, precision: str) -> str:
    """The weights' type that is served. Raises Refused for one, or for an engine, that isn't known."""
    from model_api.compute.conversion import TYPES

    asked, engine = weights_type(manifest, precision), manifest.options.get("engine", ENGINES[0])
    if asked not in TYPES or engine not in ENGINES:
        raise Refused("manifest.json", f"precision {asked!r} with engine {engine!r} is not served")
    return asked


def uses_ctranslate2(manifest: Manifest, folder: Path, weights: str) -> bool:
    """Whether CTranslate2 serves it, where it converts it; else transformers."""
    from model_api.compute.conversion import why_not_convertible
    from model_api.compute.generation import Search, same_as_transformers

    settings = read_settings(folder)
    if manifest.options.get("engine", ENGINES[0]) != ENGINES[0] or settings.only_transformers:
        return False
    most = most_new_tokens(read_json(folder / "config.json", {}))
    search = search_of(generation_defaults(manifest, settings, most), settings)
    if weights == "float32" and not same_as_transformers(Search.of(search), settings):
        return False
    return not why_not_convertible(folder, weights)


def loading_bytes(folder: Path, manifest: Manifest, precision: str) -> int:
    """Of a model that CTranslate2 serves: a conversion that lies there already needn't be paid for again."""
    from model_api.compute import conversion

    weights = weights_type(manifest, precision)
    made = conversion.loading_bytes(folder, weights) if weights in conversion.TYPES else None
    return manifest.memory_bytes if made is None else min(made, manifest.memory_bytes)


def weights_type(manifest: Manifest, precision: str) -> str:
    """What the manifest asks for, else what the instance's `precision` comes to."""
    return str(manifest.options.get("precision") or ("float32" if precision == "float32" else "int8"))


class SequenceToSequence(Task):
    """A task's own module adds its web side."""

    parameters = GenerationParameters
    prediction = Generated
    options = SequenceToSequenceOptions
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}
    long_running = True
    compares_to_float32 = False

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> SequenceToSequenceModel:
        return SequenceToSequenceModel(folder, manifest, precision)

    def needs_conversion(self, folder: Path, manifest: Manifest, precision: str) -> bool:
        from model_api.compute.conversion import is_converted

        weights = checked_type(manifest, precision)
        return uses_ctranslate2(manifest, folder, weights) and not is_converted(folder, weights)

    def convert(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.conversion import convert

        convert(folder, checked_type(manifest, precision))

    def loading_bytes(self, folder: Path, manifest: Manifest, precision: str) -> int:
        return loading_bytes(folder, manifest, precision)
