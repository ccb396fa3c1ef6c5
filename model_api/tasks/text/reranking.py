"""Task `reranking`: how well each of some texts answers a query, as sentence-transformers' CrossEncoder scores it.

An input is {"query", "texts"}; its prediction {"scores"}, one per text in order, with `top_k` also "top": [{"index",
"score"}], best first. Scores are what the model's own activation makes of its one output, wherever a release of the
library wrote that down; the manifest's option `activation` overrides it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.loaded_files import reader_of
from model_api.repository.manifest import Manifest
from model_api.repository.sentence_modules import SETTINGS_FILE, read_modules
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.pair_frame import write_frame
from model_api.tasks.text.pairs import PairTokenizer
from model_api.tasks.text.tokenization import TextTokenizer, read_json

MAX_TEXTS = 1000  # of one query
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Identity": "none"}


def read_activation(folder: Path, options: Mapping[str, Any]) -> str:
    """What makes a score of the output: sigmoid or none. Raises Refused for another, and for more outputs than one."""
    root = transformer_root(folder)
    config = read_json(root / "config.json", {})
    labels = config.get("id2label")
    n_outputs = len(labels) if isinstance(labels, dict) else config.get("num_labels", 2)
    if n_outputs != 1:
        mend = "--task text-classification serves it on single texts"
        raise Refused("config.json", f"it has {n_outputs} outputs, a reranker has one; {mend}")
    if options.get("activation"):
        return str(options["activation"])
    own = config.get("sentence_transformers")
    named = [
        read_json(folder / SETTINGS_FILE, {}).get("activation_fn"),
        own.get("activation_fn") if isinstance(own, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    ]
    dotted = next((str(name) for name in named if name is not None), "torch.nn.modules.activation.Sigmoid")
    kind = dotted.rsplit(".", 1)[-1]
    if not dotted.startswith("torch.nn.") or kind not in _ACTIVATIONS:
        raise Refused("config.json", f"its activation {dotted} is not served; served are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[kind]


def transformer_root(folder: Path) -> Path:
    """Where the transformer lies. Raises Refused for a CrossEncoder that does more than that."""
    modules = read_modules(*reader_of(folder))
    if modules is None:
        return folder
    if modules.static or modules.poolings or modules.layers or modules.normalize or not modules.classifies:
        raise Refused(
            "modules.json", "a reranker is one Transformer that classifies; these modules are another model's"
        )
    if modules.default_prompt:
        raise Refused(SETTINGS_FILE, "a reranker's default prompt is not served")
    return folder / modules.transformer


class RerankingOptions(EncoderOptions):
    activation: Literal["sigmoid", "none"] | None = Field(None, description="Default: what the model's own files say.")


class RerankingParameters(TextParameters):
    top_k: int | None = Field(None, ge=1, le=MAX_TEXTS, description="Show so many of the best texts, best first.")


class Ranked(BaseModel):
    """`index` counts the texts of the input."""

    index: int
    score: float


class Reranked(BaseModel):
    """One score per text, in order."""

    scores: list[float]
    top: list[Ranked] | None = Field(None, description="Best first, with top_k.")


class RerankingWeb(WebSide):
    """Web side. A row is a query with one text: [2, length], ids and token types."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._pairs = PairTokenizer(self._tokenizer, transformer_root(folder))
        self._defaults = check_defaults(RerankingParameters, {"truncate": bool(manifest.options.get("truncate"))})

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(RerankingParameters, parameters, self._defaults)
        rows: list[Array] = []
        counts, truncated = [], []
        for index, one in enumerate(inputs):
            query, texts = _checked(one, f"{pointer}/{index}")
            (first,) = self._tokenizer.encode_bare([query], [f"{pointer}/{index}/query"])
            places = [f"{pointer}/{index}/texts/{number}" for number in range(len(texts))]
            for second, place in zip(self._tokenizer.encode_bare(texts, places), places, strict=True):
                row, was_cut = self._pairs.join(first, second, place, read.truncate)
                rows.append(row)
                truncated += [index] * was_cut
            counts.append(len(texts))
        costs = [row.shape[1] for row in rows]
        return Prepared(rows, costs, {}, sum(costs), sorted(set(truncated)), context=(counts, read.top_k))

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        counts, top_k = prepared.context
        predictions, start = [], 0
        for count in counts:
            scores = np.array([float(output[0]) for output in outputs[start : start + count]])
            start += count
            prediction: dict[str, Any] = {"scores": scores.tolist()}
            if top_k is not None:
                best = np.argsort(-scores, kind="stable")[:top_k]
                prediction["top"] = [{"index": int(i), "score": float(scores[i])} for i in best]
            predictions.append(prediction)
        return predictions


def _checked(one: Any, pointer: str) -> tuple[str, list[Any]]:
    if not isinstance(one, dict) or one.keys() != {"query", "texts"}:
        raise InvalidInput('must be {"query": a text, "texts": a list of texts}', pointer)
    texts = one["texts"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"must be a list of 1 to {MAX_TEXTS} texts", f"{pointer}/texts")
    return one["query"], texts


class RerankingModel(ModelSide):
    """Model side: one float32 score per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.classification_head import load_classifier

        activation = read_activation(folder, manifest.options)
        root = transformer_root(folder)
        self._classifier, self.precision_reason = load_classifier(root, precision, 1, activation, pairs=True)
        self.precision = self._classifier.precision

    def warm(self) -> None:
        self._classifier.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return list(self._classifier.scores(arrays))


_WARM_TEXTS = ["warm", "A sentence of ordinary length to warm up with.", "The train was late. " * 20, "東京, 1,234.56"]


class Reranking(EncoderTask):
    parameters = RerankingParameters
    prediction = Reranked
    options = RerankingOptions
    warm_inputs = ({"query": "warm", "texts": _WARM_TEXTS}, {"query": "How late was the train?", "texts": _WARM_TEXTS})
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> RerankingWeb:
        return RerankingWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> RerankingModel:
        return RerankingModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        write_frame(transformer_root(folder))


TASK = Reranking()
