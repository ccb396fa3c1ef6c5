"""Task `embedding`: texts to vectors, as sentence-transformers computes them from the model's own files.

Prompts, pooling, the layers after it and normalisation come from `modules.json` and what lies beside it; a bare encoder
gives its [CLS] vector. The manifest's options `pooling`, `normalize` and `max_tokens` override them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.loaded_files import reader_of
from model_api.repository.manifest import MANIFEST_NAME, Manifest
from model_api.repository.sentence_modules import POOLINGS, SentenceModules, read_modules
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.tokenization import TextTokenizer, check_text

if TYPE_CHECKING:
    from model_api.compute.encoder import Encoder
    from model_api.compute.quantised_encoder import QuantisedEncoder
    from model_api.compute.transformers_encoder import ReferenceEncoder

MAX_PROMPT_CHARS = 4000
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@dataclass(frozen=True)
class Sentences:
    """How a model makes vectors, by its own files and the manifest's options. `folder` is the transformer's."""

    folder: Path
    modules: SentenceModules
    poolings: tuple[str, ...]
    normalize: bool | None  # what the author says; None: as modules say

    @classmethod
    def read(cls, folder: Path, options: Mapping[str, Any]) -> "Sentences":
        """Raises Refused for what isn't served, as read_modules does."""
        found = read_modules(*reader_of(folder))
        modules = found or SentenceModules((), prompts={"query": "", "document": ""})
        poolings = modules.poolings if found else ("cls",)
        if options.get("pooling") is not None:
            poolings = (str(options["pooling"]),)
        if not poolings and not modules.static:
            raise Refused("modules.json", "it has no Pooling module; publish with --option pooling=mean (or cls, ...)")
        if not set(poolings) <= set(POOLINGS):
            raise Refused(MANIFEST_NAME, f"option pooling: {poolings[0]!r} is none of {', '.join(POOLINGS)}")
        return cls(folder / modules.transformer, modules, poolings, options.get("normalize"))


class EmbeddingOptions(EncoderOptions):
    pooling: Pooling | None = Field(
        None, description="How token vectors become one. Default: what modules.json says; of a bare encoder, cls."
    )
    normalize: bool | None = Field(None, description="Vectors of length 1. Default: what modules.json says.")


class EmbeddingParameters(TextParameters):
    normalize: bool | None = Field(None, description="Vectors of length 1. Default: what the model's own files say.")
    prompt: str | None = Field(
        None, max_length=MAX_PROMPT_CHARS, description="Put before every text, instead of the model's default prompt."
    )
    prompt_name: str | None = Field(None, description="One of the model's own prompts, by its name.")
    dimensions: int | None = Field(None, ge=1, le=100_000, description="Keep so many of each vector's first numbers.")


@dataclass(frozen=True)
class _Wanted:
    """What a request wants done with its vectors."""

    normalize: bool | None
    dimensions: int | None


class EmbeddingWeb(WebSide):
    """Web side."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._sentences = Sentences.read(folder, manifest.options)
        modules = self._sentences.modules
        longest = max((len(text) for text in modules.prompts.values()), default=0)
        self._tokenizer = TextTokenizer(folder, manifest.options, limits, max(longest, MAX_PROMPT_CHARS))
        self._limits = limits
        self._defaults = check_defaults(EmbeddingParameters, {"truncate": bool(manifest.options.get("truncate"))})

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(EmbeddingParameters, parameters, self._defaults)
        prompt = self._prompt(read)
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self._limits.max_text_chars)
        tokens = self._tokenizer.encode(
            [prompt + text for text in inputs] if prompt else inputs, pointer, read.truncate
        )
        costs = [len(ids) for ids in tokens.ids]
        skipped = 0
        if prompt and not self._sentences.modules.pools_prompt:
            skipped = self._tokenizer.prompt_length(prompt)
            short = next((index for index, cost in enumerate(costs) if cost <= skipped), None)
            if short is not None:
                raise InvalidInput(f"the prompt's {skipped} tokens leave no room for the text", f"{pointer}/{short}")
        wanted = _Wanted(read.normalize, read.dimensions)
        forward = {"skipped": skipped} if skipped else {}
        return Prepared(tokens.ids, costs, forward, sum(costs), tokens.truncated, context=wanted)

    def _prompt(self, read: EmbeddingParameters) -> str:
        """As sentence-transformers chooses it: what is given, else what is named, else the model's default."""
        if read.prompt is not None and read.prompt_name is not None:
            raise InvalidInput("prompt and prompt_name exclude each other", pointer_to("prompt_name"))
        if read.prompt is not None:
            check_text(read.prompt, pointer_to("prompt"), MAX_PROMPT_CHARS, may_be_empty=True)
            return read.prompt
        prompts = self._sentences.modules.prompts
        if read.prompt_name is None:
            return self._sentences.modules.default_prompt
        if read.prompt_name not in prompts:
            told = f"this model has no prompt {read.prompt_name[:80]!r}; it has: {', '.join(sorted(prompts))}"
            raise InvalidInput(told, pointer_to("prompt_name"))
        return prompts[read.prompt_name]

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        """One float32 vector per text: of unit length where the model's last module makes it so, then cut, then of unit
        length where the caller or the author says so."""
        if not outputs:
            return []
        vectors, wanted, modules = np.stack(outputs), prepared.context, self._sentences.modules
        said = wanted.normalize if wanted.normalize is not None else self._sentences.normalize
        if said is None and modules.normalize:
            vectors = unit_length(vectors)
        if wanted.dimensions is not None and wanted.dimensions > vectors.shape[1]:
            told = f"this model's vectors have {vectors.shape[1]} dimensions"
            raise InvalidInput(told, pointer_to("dimensions"))
        vectors = vectors[:, : wanted.dimensions or modules.dimensions]
        return list(unit_length(vectors) if said else vectors)

    def similarities(self, prepared: Prepared, outputs: Sequence[Array]) -> list[float]:
        """The first text with each of the others, by the measure that the model was trained for."""
        return similarities(np.stack(self.finish(prepared, outputs)), self._sentences.modules.similarity)


def similarities(vectors: npt.NDArray[np.float32], measure: str) -> list[float]:
    """`vectors[0]` with each of the others; as sentence-transformers, distances are negative."""
    first, others = vectors[0].astype(np.float64), vectors[1:].astype(np.float64)
    if measure == "cosine":
        units = unit_length(vectors)
        found: list[float] = (units[1:] @ units[0]).tolist()
        return found
    if measure == "dot":
        found = (others @ first).tolist()
    elif measure == "euclidean":
        found = (-np.linalg.norm(others - first, axis=1)).tolist()
    else:
        found = (-np.abs(others - first).sum(1)).tolist()
    return found


def unit_length(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of `vectors` [n, hidden_size] scaled to length 1; a zero row stays zero (the floor is torch's 1e-12)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


class EmbeddingModel(ModelSide):
    """Model side: pooled last hidden states and what layers make of them, not normalised."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        sentences = Sentences.read(folder, manifest.options)
        from model_api.compute.load_encoder import load_encoder
        from model_api.compute.sentence_layers import SentenceLayers
        from model_api.compute.static_encoder import StaticEncoder

        self._poolings = sentences.poolings
        self._encoder: StaticEncoder | Encoder | QuantisedEncoder | ReferenceEncoder
        if sentences.modules.static:
            self._encoder = StaticEncoder.load(sentences.folder)
        else:
            self._encoder, self.precision_reason = load_encoder(sentences.folder, precision)
        size = self._encoder.hidden_size * (len(self._poolings) or 1)
        self._layers = SentenceLayers(folder, sentences.modules.layers, size)
        self.precision = self._encoder.precision

    def warm(self) -> None:
        self._encoder.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        """`arrays`: token ids [n_tokens] -> float32 vectors [size]."""
        pooled = self._encoder.pooled(arrays, self._poolings, int(parameters.get("skipped", 0)))
        return list(self._layers(pooled))


class Embedding(EncoderTask):
    parameters = EmbeddingParameters
    prediction = list[float]
    options = EmbeddingOptions
    # Several lengths, so that every kind of kernel has run once before the first caller needs it.
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "Weights are published once and served by every instance. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> EmbeddingWeb:
        return EmbeddingWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> EmbeddingModel:
        return EmbeddingModel(folder, manifest, precision)


TASK = Embedding()
